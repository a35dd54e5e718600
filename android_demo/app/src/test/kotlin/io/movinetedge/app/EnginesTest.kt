package io.movinetedge.app

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.Bundle
import io.movinetedge.engine.EngineOptions
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner

/** The delegates that a phone gets, here where neither accelerator is to be had. */
@RunWith(RobolectricTestRunner::class)
class EnginesTest {
    private val engines = androidEngines().associateBy { it.name }

    private fun refusal(delegate: String): BadInput =
        Bundle(Fixtures.motion).use { bundle ->
            val options = StreamOptions("fp32", EngineOptions(delegate = delegate))
            assertThrows(BadInput::class.java) {
                Stream(bundle, engines.getValue("tflite"), options).close()
            }
        }

    @Test
    fun `each engine names what it can be asked for`() {
        assertEquals(DELEGATES.getValue("tflite"), engines.getValue("tflite").delegates)
        assertEquals(DELEGATES.keys, engines.keys)
    }

    @Test
    fun `a GPU delegate whose library is not there is refused`() {
        val error = refusal("gpu")
        assertEquals(Fault.REFUSED, error.fault)
        assertTrue(error.message, "on gpu: " in error.message.orEmpty())
    }

    @Test
    fun `NNAPI does not leave the graph to the CPU`() {
        val error = refusal("nnapi")
        assertEquals(Fault.REFUSED, error.fault)
        assertTrue(error.message, error.message.orEmpty().startsWith("nnapi does not take all of "))
    }
}
