package io.movinetedge.app.live

import android.graphics.Color
import io.movinetedge.preprocess.RgbFrame
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner

/** What is shown of a frame stands upright. */
@RunWith(RobolectricTestRunner::class)
class ImagesTest {
    /** Three wide and two high, each pixel red as its number says. */
    private fun frame(rotation: Int) =
        RgbFrame(ByteArray(18) { if (it % 3 == 0) (it / 3 * 10).toByte() else 0 }, 2, 3, rotation)

    private fun reds(rotation: Int): List<List<Int>> {
        val picture = pictureOf(frame(rotation), 100)

        fun red(
            x: Int,
            y: Int,
        ) = Color.red(picture.getPixel(x, y)) / 10
        return List(picture.height) { y -> List(picture.width) { x -> red(x, y) } }
    }

    @Test
    fun `it is turned clockwise`() {
        assertEquals(listOf(listOf(0, 1, 2), listOf(3, 4, 5)), reds(0))
        assertEquals(listOf(listOf(3, 0), listOf(4, 1), listOf(5, 2)), reds(90))
        assertEquals(listOf(listOf(5, 4, 3), listOf(2, 1, 0)), reds(180))
        assertEquals(listOf(listOf(2, 5), listOf(1, 4), listOf(0, 3)), reds(270))
    }

    @Test
    fun `large ones are made smaller`() {
        val picture = pictureOf(RgbFrame(ByteArray(3 * 400 * 300), 300, 400, 90), 100)
        assertEquals(75 to 100, picture.width to picture.height)
    }
}
