package io.movinetedge.app.live

import android.graphics.Color
import android.graphics.Rect
import io.movinetedge.preprocess.ColourMatrix
import io.movinetedge.preprocess.Frame
import io.movinetedge.preprocess.RgbFrame
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner

/** What a model sees of an image is what a camera meant; what is shown of a frame stands upright. */
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

    private fun rows(frame: Frame): List<FloatArray> =
        List(frame.height) { y -> FloatArray(frame.width * 3).also { frame.readRow(y, 0, frame.width, it) } }

    private fun assertSeen(
        image: GradientImage,
        rotation: Int,
        colouring: Colouring = Colouring(),
    ) {
        val (wanted, got) = image.byHand(rotation, colouring) to frameOf(image, rotation, colouring)
        assertEquals(wanted.width to wanted.height, got.width to got.height)
        assertEquals(rotation, got.rotation)
        rows(wanted).zip(rows(got)).forEach { (a, b) -> assertArrayEquals(a, b, 0f) }
    }

    @Test
    fun `an image is read where it lies, whatever its layout`() {
        for (pixelStride in 1..2) {
            for (padding in listOf(0, 10)) {
                for (size in listOf(Side(40, 30), Side(33, 27))) {
                    assertSeen(GradientImage(size, pixelStride, padding), 90)
                }
            }
        }
    }

    @Test
    fun `of an image only its crop is seen`() {
        for (pixelStride in 1..2) {
            for (crop in listOf(Rect(4, 6, 40, 30), Rect(10, 0, 31, 13), Rect(0, 2, 40, 3))) {
                assertSeen(GradientImage(Side(40, 30), pixelStride, 6, crop), 270)
            }
        }
    }

    @Test
    fun `a video's colours are as it says`() {
        val image = GradientImage(Side(40, 30), 2, 24, Rect(2, 2, 38, 28))
        for (colouring in listOf(Colouring(false), Colouring(false, ColourMatrix.BT709))) {
            assertSeen(image, 0, colouring)
        }
    }
}
