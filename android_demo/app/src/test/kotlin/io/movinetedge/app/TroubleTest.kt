package io.movinetedge.app

import io.movinetedge.BadInput
import io.movinetedge.CheckFailed
import io.movinetedge.Fault
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** All that can go wrong has a sentence and a way on. */
class TroubleTest {
    @Test
    fun `every trouble has a way on that is always open`() {
        // Others depend on what is chosen.
        val engines = setOf(Way.USE_CPU, Way.USE_TFLITE, Way.USE_ONNX_RUNTIME)
        val dependent = engines + Way.USE_DEFAULT + Way.OTHER_PRECISION
        for (trouble in Trouble.entries - Trouble.NO_DELEGATE) {
            assertTrue("$trouble", trouble.ways.any { it !in dependent })
        }
        assertEquals(
            Trouble.entries.size,
            Trouble.entries
                .map { it.sentence }
                .toSet()
                .size,
        )
    }

    @Test
    fun `every fault of the core is told apart`() {
        val told = Fault.entries.map { troubleOf(BadInput("", fault = it)) }
        assertEquals(Fault.entries.size, told.toSet().size)
        assertEquals(Trouble.WRONG_NUMBERS, troubleOf(CheckFailed("")))
    }
}
