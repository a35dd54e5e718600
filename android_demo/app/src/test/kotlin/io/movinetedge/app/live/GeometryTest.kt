package io.movinetedge.app.live

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import kotlin.math.abs
import kotlin.math.cos
import kotlin.math.sin

/** How pictures are turned, chosen and shown. */
class GeometryTest {
    @Test
    fun `pictures are turned upright as Camera2 says`() {
        // (sensor, display, front) to degrees; phones' back cameras are mounted at 90, front ones at 270
        val table =
            mapOf(
                Triple(90, 0, false) to 90,
                Triple(90, 90, false) to 0,
                Triple(90, 180, false) to 270,
                Triple(90, 270, false) to 180,
                Triple(270, 0, true) to 270,
                Triple(270, 90, true) to 0,
                Triple(270, 270, true) to 180,
                Triple(0, 0, false) to 0,
            )
        for ((how, degrees) in table) {
            assertEquals("$how", degrees, uprightRotation(how.first, how.second, how.third))
        }
    }

    @Test
    fun `the smallest sufficient size is taken`() {
        val sizes = listOf(Side(4000, 3000), Side(1280, 720), Side(640, 480), Side(848, 480), Side(320, 240))
        assertEquals(Side(640, 480), chooseSize(sizes, 480))
        assertEquals(Side(1280, 720), chooseSize(sizes, 481))
        assertEquals(Side(4000, 3000), chooseSize(sizes, 9000))
        assertNull(chooseSize(emptyList(), 480))
    }

    @Test
    fun `a preview is shown whole, upright and undistorted`() {
        for (view in listOf(Side(822, 700), Side(700, 1400), Side(1600, 500))) {
            for (buffer in listOf(Side(640, 480), Side(1280, 720))) {
                for (sensor in listOf(0, 90, 270)) {
                    for (display in listOf(0, 90, 180, 270)) check(view, buffer, sensor, display)
                }
            }
        }
    }

    private fun check(
        view: Side,
        buffer: Side,
        sensor: Int,
        display: Int,
    ) {
        val placed = placePreview(view, buffer, sensor, display)
        val what = "$view $buffer $sensor $display: $placed"
        val angle = Math.toRadians(placed.degrees.toDouble())
        // A step along each side of the view's content, which fills the view before.
        val alongX = view.width * placed.scaleX
        val alongY = view.height * placed.scaleY
        val width = abs(alongX * cos(angle)) + abs(alongY * sin(angle))
        val height = abs(alongX * sin(angle)) + abs(alongY * cos(angle))
        assertTrue(what, width <= view.width + 0.01 && height <= view.height + 0.01)
        assertTrue(what, abs(width - view.width) < 0.01 || abs(height - view.height) < 0.01)
        val upright = buffer.turned(sensor).turned(display)
        assertEquals(what, upright.width.toDouble() / upright.height, width / height, 1e-3)
    }
}
