package io.movinetedge

import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.DType
import io.movinetedge.bundle.Manifest
import io.movinetedge.bundle.TensorSpec
import io.movinetedge.engine.Engine
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TensorBuffer
import io.movinetedge.engine.TfliteEngines
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import org.tensorflow.lite.nnapi.NnApiDelegate
import java.io.File

/** Engines refuse, in one sentence, what they cannot do; nothing falls back in silence. */
class EnginesTest {
    @TempDir
    lateinit var folder: File

    private fun refused(action: () -> Unit): String {
        val message = assertThrows(BadInput::class.java, action).message.orEmpty()
        assertFalse("\n" in message, message)
        return message
    }

    private fun open(
        engine: EngineFactory,
        options: EngineOptions,
    ) = Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
        Stream(bundle, engine, StreamOptions(engine = options)).close()
    }

    @ParameterizedTest
    @MethodSource("engines")
    fun `an accelerator that is not there is refused`(engine: EngineFactory) {
        for (delegate in listOf("nnapi", "gpu")) {
            val message = refused { open(engine, EngineOptions(delegate = delegate)) }
            assertTrue(
                "has no delegate $delegate here; it has ${engine.delegates.joinToString()}" in message,
                message,
            )
        }
    }

    @Test
    fun `an accelerator that cannot be made is refused`() {
        val engine = TfliteEngines(mapOf("gpu" to { throw IllegalStateException("no such chip\n at all") }))
        val message = refused { open(engine, EngineOptions(delegate = "gpu")) }
        assertEquals("tflite cannot load step.tflite on gpu: no such chip", message)
    }

    @Test
    fun `an accelerator without its library is refused`() {
        val engine = TfliteEngines(mapOf("gpu" to { throw UnsatisfiedLinkError("no gpu in path") }))
        val message = refused { open(engine, EngineOptions(delegate = "gpu")) }
        assertEquals("tflite cannot load step.tflite on gpu: no gpu in path", message)
    }

    @Test
    fun `an accelerator that would leave the graph to the CPU is refused`() {
        // There is no NNAPI on this computer, where its delegate is made and then takes nothing.
        val engine = TfliteEngines(mapOf("nnapi" to { NnApiDelegate() }))
        val message = refused { open(engine, EngineOptions(delegate = "nnapi")) }
        assertTrue(message.startsWith("nnapi does not take all of step.tflite"), message)
    }

    @Test
    fun `whether a delegate takes all of a graph is told`() {
        fun whole(
            engine: EngineFactory,
            delegate: String,
        ) = Bundle(Fixtures.bundle("arnet")).use { bundle ->
            val options = StreamOptions(engine = EngineOptions(delegate = delegate))
            Stream(bundle, engine, options).use { it.wholeGraphs }
        }
        // XNNPACK of 2.6 takes both backbones, but only a part of the policy.
        val taken = mapOf("policy" to false, "backbone_0" to true, "backbone_1" to true)
        assertEquals(taken, whole(TfliteEngines(), "xnnpack"))
        assertEquals(taken.mapValues { null }, whole(TfliteEngines(), "none"))
        assertEquals(taken.mapValues { null }, whole(OrtEngines, "none"))
    }

    @Test
    fun `threads are at least 1`() {
        for (engine in Fixtures.engines) {
            assertEquals("threads must be at least 1, not 0", refused { open(engine, EngineOptions(0)) })
        }
    }

    @ParameterizedTest
    @MethodSource("engines")
    fun `plain kernels and threads can be asked for`(engine: EngineFactory) {
        open(engine, EngineOptions(threads = 2, delegate = "none"))
    }

    @ParameterizedTest
    @MethodSource("engines")
    fun `a damaged model is one sentence`(engine: EngineFactory) {
        Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
            val file = bundle.manifest.file(engine)
            val cut = folder.resolve("cut")
            val bytes = bundle.file(file).readBytes()
            cut.writeBytes(bytes.copyOf(bytes.size / 2))
            val message = refused { engine.load(cut, file, EngineOptions()) }
            assertTrue(message.startsWith("${engine.name} cannot load ${file.path}"), message)
        }
    }

    @ParameterizedTest
    @MethodSource("engines")
    fun `tensors that are not the model's are refused`(engine: EngineFactory) {
        Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
            val file = bundle.manifest.file(engine)
            engine.load(bundle.file(file), file, EngineOptions()).use { loaded ->
                val first = file.inputs.first()

                fun bind(change: (List<TensorSpec>) -> List<TensorSpec>) =
                    refused { loaded.bindTo(change(file.inputs), file.outputs) }
                assertTrue("input '${first.name}' that the manifest does not name" in bind { it.drop(1) })
                val more = first.copy(name = "more")
                assertTrue("names inputs the model lacks: more" in bind { it + more })
                val (shape, type) =
                    if (engine == OrtEngines) {
                        "input '${first.name}' has shape" to "is float32 in the model and int8"
                    } else {
                        "tflite cannot run" to "tflite cannot run" // when it runs, by their sizes
                    }
                val longer = first.copy(shape = first.shape.map { it + 1 })
                assertTrue(shape in bind { it.drop(1) + longer })
                val other = first.copy(dtype = DType.INT8)
                assertTrue(type in bind { it.drop(1) + other })
            }
        }
    }

    @Test
    fun `a bundle without the files is refused`() {
        Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
            val message = refused { Stream(bundle, OrtEngines, StreamOptions("int8")).close() }
            assertTrue("has no int8 onnx file (it holds" in message, message)
        }
    }

    companion object {
        @JvmStatic
        fun engines() = Fixtures.engines
    }
}

private fun Manifest.file(engine: EngineFactory) = planned.single().files.first { it.format == engine.format }

private fun Engine.bindTo(
    inputs: List<TensorSpec>,
    outputs: List<TensorSpec>,
) = bind(
    inputs.associate { it.name to TensorBuffer(it) },
    outputs.associate { it.name to TensorBuffer(it) },
).run()
