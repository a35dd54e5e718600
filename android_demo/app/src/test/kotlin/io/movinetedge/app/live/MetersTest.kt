package io.movinetedge.app.live

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import kotlin.math.abs
import kotlin.random.Random

private const val SECOND = 1_000_000_000L

/** What is measured while a stream runs. */
class MetersTest {
    @Test
    fun `percentiles are of the newest values only`() {
        val window = LatencyWindow(100)
        assertNull(window.percentile(50))
        repeat(500) { window.add(1000.0) }
        for (ms in (1..100).shuffled(Random(1))) window.add(ms.toDouble())
        assertEquals(50.5, window.percentile(50)!!, 1e-9)
        assertEquals(95.05, window.percentile(95)!!, 1e-9)
        window.clear()
        assertNull(window.percentile(50))
    }

    @Test
    fun `a rate is that of the last seconds`() {
        val meter = RateMeter(seconds = 4.0)
        assertNull(meter.rate())
        for (i in 0 until 300) meter.add(i * SECOND / 30)
        assertEquals(30.0, meter.rate()!!, 1e-6)
        for (i in 0 until 25) meter.add(10 * SECOND + i * SECOND / 5)
        assertEquals(5.0, meter.rate()!!, 1e-6)
    }

    @Test
    fun `smoothing is as quick at any frame rate`() {
        fun after(rate: Int): Float {
            val smoother = Smoother(2, halfLife = 0.5)
            smoother.add(floatArrayOf(1f, 0f), 0)
            for (i in 1..rate) smoother.add(floatArrayOf(0f, 1f), i * SECOND / rate)
            return smoother.values[0]
        }
        for (rate in listOf(1, 2, 5, 30)) assertEquals("$rate", 0.25f, after(rate), 1e-4f)
    }

    @Test
    fun `smoothed probabilities are probabilities, and come to rest at the new ones`() {
        val random = Random(2)
        val smoother = Smoother(6)
        var now = 0L
        var target = FloatArray(6)
        repeat(200) {
            val raw = FloatArray(6) { random.nextFloat() }
            target = FloatArray(6) { raw[it] / raw.sum() }
            now += (random.nextDouble() * SECOND).toLong()
            smoother.add(target, now)
            assertTrue(abs(smoother.values.sum() - 1) < 1e-4)
            assertTrue(smoother.values.all { it in 0f..1f })
        }
        smoother.add(target, now + 100 * SECOND)
        assertArrayEquals(target, smoother.values, 1e-6f)
    }
}
