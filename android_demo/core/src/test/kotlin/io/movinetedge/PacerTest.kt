package io.movinetedge

import io.movinetedge.runtime.Pacer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import kotlin.random.Random

private const val SECOND = 1_000_000_000L

/** A camera's frames are chosen by their times, whatever they are. */
class PacerTest {
    private fun taken(
        pacer: Pacer,
        times: List<Double>,
    ): List<Double> = times.filter { pacer.takes((it * SECOND).toLong() + 77 * SECOND) }

    @Test
    fun `thirty frames become five`() {
        val pacer = Pacer(5.0)
        val times = taken(pacer, List(300) { it / 30.0 })
        assertEquals(List(50) { it * 6 / 30.0 }, times)
        assertEquals(250, pacer.dropped)
        assertEquals(0, pacer.missed)
    }

    @Test
    fun `all are taken at the camera's own rate, though they tremble`() {
        val random = Random(0)
        val pacer = Pacer(30.0)
        val times = List(300) { it / 30.0 + if (it == 0) 0.0 else random.nextDouble(-0.003, 0.003) }
        assertEquals(300, taken(pacer, times).size)
        assertEquals(0, pacer.dropped)
    }

    @Test
    fun `a slower camera gives what it has`() {
        val pacer = Pacer(10.0)
        assertEquals(20, taken(pacer, List(20) { it / 4.0 }).size)
        assertEquals(0, pacer.dropped)
        assertEquals(28, pacer.missed) // of 48 turns
    }

    @Test
    fun `nothing is made up for after a pause`() {
        val pacer = Pacer(5.0)
        val times = taken(pacer, listOf(0.0, 0.2, 1.0, 1.01, 1.02, 1.2))
        assertEquals(listOf(0.0, 0.2, 1.0, 1.2), times)
        assertEquals(3, pacer.missed)
        assertEquals(2, pacer.dropped)
    }

    @Test
    fun `a reset begins anew`() {
        val pacer = Pacer(5.0)
        taken(pacer, listOf(0.0, 0.1))
        pacer.reset()
        assertEquals(listOf(0.1, 0.3), taken(pacer, listOf(0.1, 0.2, 0.3)))
    }
}
