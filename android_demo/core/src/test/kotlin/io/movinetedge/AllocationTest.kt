package io.movinetedge

import com.sun.management.ThreadMXBean
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.ModelFile
import io.movinetedge.bundle.Preprocessing
import io.movinetedge.bundle.Role
import io.movinetedge.bundle.TensorSpec
import io.movinetedge.check.readGolden
import io.movinetedge.engine.Binding
import io.movinetedge.engine.Buffers
import io.movinetedge.engine.Engine
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.engine.TensorBuffer
import io.movinetedge.preprocess.Fitter
import io.movinetedge.preprocess.FrameInput
import io.movinetedge.preprocess.Plane
import io.movinetedge.preprocess.YuvFrame
import io.movinetedge.runtime.Stream
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.io.File
import java.lang.management.ManagementFactory
import java.nio.ByteBuffer
import java.util.function.LongSupplier

private const val STEPS = 96 // of every kind of plan here several rounds

// The JVM itself allocates now and then, as when it takes compiled code back; a step of ours would always.
private const val ROUNDS = 3

// Of one run of a graph; A0 has 46 inputs and as many outputs, for each of which a library makes objects.
private const val LIBRARY_BYTES = 8000

/** A step allocates nothing beside what the engine's own library does, by the JVM's own counter. */
class AllocationTest {
    private val threads = ManagementFactory.getThreadMXBean() as ThreadMXBean

    private fun allocated() = threads.currentThreadAllocatedBytes

    @ParameterizedTest
    @MethodSource("bundles")
    fun `steps allocate nothing`(
        name: String,
        engine: EngineFactory,
    ) {
        val counting = CountingEngines(engine) { threads.currentThreadAllocatedBytes }
        Bundle(Fixtures.bundle(name)).use { bundle ->
            Stream(bundle, counting).use { stream ->
                val golden = readGolden(bundle)
                val frame = golden.frame()

                fun run() {
                    for (step in 0 until STEPS) {
                        golden.show(frame, step)
                        stream.step(frame)
                    }
                }
                run() // every assignment of buffers comes up, every decision is taken
                val own =
                    List(ROUNDS) {
                        stream.reset()
                        counting.bytes = 0
                        counting.runs = 0
                        val before = allocated()
                        run()
                        allocated() - before - counting.bytes
                    }
                val each = counting.bytes / counting.runs
                println("$name, ${engine.name}: $each bytes a run in the engine")
                assertTrue(each in 1..LIBRARY_BYTES) { "$each" } // at 0 the counter counts nothing
                assertEquals(0, own.min(), "$own")
            }
        }
    }

    @ParameterizedTest
    @MethodSource("turns")
    fun `camera frames are fitted without allocating`(rotation: Int) {
        val size = 480 * 640
        val luma = Plane(ByteBuffer.allocateDirect(size), 640, 1)
        val chroma = Plane(ByteBuffer.allocateDirect(size / 2), 640, 2)
        val frame = YuvFrame(480, 640, luma, chroma, chroma, rotation)
        val fitter = Fitter(Preprocessing(172, 172, 5.0))
        val input = FrameInput(TensorBuffer(TensorSpec("f", Role.FRAME, listOf(1, 172, 172, 3))))

        fun run() =
            repeat(20) {
                fitter.show(frame)
                fitter.fill(input, 0)
            }
        run()
        val all =
            List(ROUNDS) {
                val before = allocated()
                run()
                allocated() - before
            }
        assertEquals(0, all.min(), "$all")
    }

    companion object {
        @JvmStatic
        fun bundles() =
            listOf("a0", "a0-carry", "a0-head", "a0-clip", "ensemble", "slowfast", "arnet", "arnet-going-on")
                .flatMap { name -> Fixtures.engines.map { arrayOf(name, it) } }

        @JvmStatic
        fun turns() = listOf(0, 90, 180, 270)
    }
}

/** Counts what the wrapped engine's calls allocate. */
private class CountingEngines(
    private val inner: EngineFactory,
    private val counter: LongSupplier, // no lambda: it would put its numbers into objects
) : EngineFactory by inner {
    var bytes = 0L
    var runs = 0

    override fun load(
        model: File,
        file: ModelFile,
        options: EngineOptions,
    ): Engine {
        val engine = inner.load(model, file, options)
        return object : Engine by engine {
            override fun bind(
                inputs: Buffers,
                outputs: Buffers,
            ): Binding {
                val binding = engine.bind(inputs, outputs)
                return Binding {
                    val before = counter.asLong
                    binding.run()
                    bytes += counter.asLong - before
                    runs++
                }
            }
        }
    }
}
