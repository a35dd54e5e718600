package io.movinetedge

import io.movinetedge.bundle.Bundle
import io.movinetedge.check.Golden
import io.movinetedge.check.readGolden
import io.movinetedge.check.replay
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.OrtEngines
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.io.File
import java.lang.management.ManagementFactory

private const val MANY = 1000
private const val ROUNDS = 3
private const val SOME = 10

/** What must be true of any stream: it forgets, does not mix with others, ends, and stays small. */
class StreamTest {
    private fun logits(
        stream: Stream,
        golden: Golden,
        steps: IntRange,
    ): List<FloatArray> {
        val frame = golden.frame()
        return steps.mapNotNull { step ->
            golden.show(frame, step)
            stream.step(frame)?.logits?.copyOf()
        }
    }

    private fun assertSame(
        wanted: List<FloatArray>,
        got: List<FloatArray>,
    ) {
        assertEquals(wanted.size, got.size)
        wanted.zip(got) { a, b -> assertArrayEquals(a, b) }
    }

    @ParameterizedTest
    @MethodSource("bundles")
    fun `reset forgets, and streams do not mix`(
        name: String,
        engine: EngineFactory,
    ) {
        Bundle(Fixtures.bundle(name)).use { bundle ->
            val golden = readGolden(bundle)
            Stream(bundle, engine).use { one ->
                Stream(bundle, engine).use { two ->
                    val all = 0 until SOME + bundle.manifest.plan.delay
                    val first = logits(one, golden, all)
                    one.reset()
                    assertSame(first, logits(one, golden, all))
                    val later = logits(one, golden, all).takeLast(SOME)
                    assertTrue(later.zip(first).any { (a, b) -> !a.contentEquals(b) })
                    one.reset()
                    val mixed =
                        all.flatMap { step ->
                            logits(two, golden, 20 + step..20 + step)
                            logits(one, golden, step..step)
                        }
                    assertSame(first, mixed)
                }
            }
        }
    }

    @Test
    fun `a stream that looks ahead ends once`() {
        Bundle(Fixtures.bundle("slowfast")).use { bundle ->
            Stream(bundle, OrtEngines).use { stream ->
                assertNull(stream.finish())
                val golden = readGolden(bundle)
                val frame = golden.frame()
                stream.step(frame)
                val last = stream.finish()
                assertEquals(0, last?.frame)
                val message = assertThrows(IllegalStateException::class.java) { stream.step(frame) }.message
                assertEquals("the stream has ended; reset it first", message)
                stream.reset()
                stream.step(frame)
            }
        }
    }

    @Test
    fun `a short clip is completed`() {
        Bundle(Fixtures.bundle("a0-clip")).use { bundle ->
            Stream(bundle, OrtEngines).use { stream ->
                val golden = readGolden(bundle)
                assertEquals(0, logits(stream, golden, 0..2).size)
                val completed = stream.finish()?.logits?.copyOf()
                stream.reset()
                val wanted = logits(stream, golden, 0..2)
                assertEquals(0, wanted.size)
                val frame = golden.frame()
                golden.show(frame, 2)
                stream.step(frame)
                assertArrayEquals(stream.step(frame)?.logits, completed)
            }
        }
    }

    @Test
    fun `a closed stream takes no frames`() {
        Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
            val stream = Stream(bundle, OrtEngines)
            val frame = readGolden(bundle).frame()
            stream.close()
            stream.close()
            assertThrows(IllegalStateException::class.java) { stream.step(frame) }
        }
    }

    @Test
    fun `a cost bias saves work, and is refused where nothing is decided`() {
        Bundle(Fixtures.bundle("arnet")).use { bundle ->
            val golden = readGolden(bundle)

            fun actions(bias: Double) =
                Stream(bundle, OrtEngines, StreamOptions(costBias = bias)).use { stream ->
                    replay(stream, golden).answers.map { it.action }
                }
            val costs =
                bundle.manifest.plan.choice!!
                    .actions
                    .map { it.cost }
            assertEquals(setOf(costs.indexOf(costs.max())), actions(-1e6).toSet())
            assertEquals(setOf(costs.indexOf(costs.min())), actions(1e6).toSet())
            assertThrows(BadInput::class.java) { actions(Double.NaN) }
        }
        Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
            val error =
                assertThrows(BadInput::class.java) {
                    Stream(bundle, OrtEngines, StreamOptions(costBias = 1.0))
                }
            assertTrue("decides nothing" in error.message.orEmpty())
        }
    }

    @ParameterizedTest
    @MethodSource("lasting")
    fun `many steps need no more memory`(
        name: String,
        engine: EngineFactory,
    ) {
        Bundle(Fixtures.bundle(name)).use { bundle ->
            Stream(bundle, engine).use { stream ->
                val golden = readGolden(bundle)
                val frame = golden.frame()

                fun run() =
                    repeat(MANY) { step ->
                        golden.show(frame, step)
                        stream.step(frame)
                    }
                run()
                // The JVM's own growth, as of its compiler, ends, and what it gives back comes once; a
                // leak would be in every round.
                val grown =
                    List(ROUNDS) {
                        val before = memory()
                        run()
                        memory() - before
                    }
                println("$name, ${engine.name}: $grown more after $MANY steps each")
                assertTrue(grown.map { it.resident }.sorted()[ROUNDS / 2] < 256) { "$grown" }
                assertTrue(grown.map { it.heap }.sorted()[ROUNDS / 2] < 16) { "$grown" }
            }
        }
    }

    @Test
    fun `frames that differ give answers that differ`() {
        Bundle(Fixtures.bundle("a0-carry")).use { bundle ->
            Stream(bundle, OrtEngines).use { stream ->
                val all = logits(stream, readGolden(bundle), 0..9)
                assertNotEquals(1, all.map { it.toList() }.toSet().size)
            }
        }
    }

    companion object {
        @JvmStatic
        fun lasting() =
            listOf("a0", "a0-carry", "ensemble", "slowfast")
                .flatMap { name -> Fixtures.engines.map { arrayOf(name, it) } }

        @JvmStatic
        fun bundles() =
            listOf("a0-carry", "a0-head", "ensemble", "slowfast", "arnet")
                .flatMap { name -> Fixtures.engines.map { arrayOf(name, it) } }
    }
}

/** What the process holds, and the heap, in kB. */
private data class Memory(
    val resident: Long,
    val heap: Long,
) {
    operator fun minus(other: Memory) = Memory(resident - other.resident, heap - other.heap)
}

/** After the garbage is gone. */
private fun memory(): Memory {
    repeat(3) { System.gc() }
    val line = File("/proc/self/status").readLines().first { it.startsWith("VmRSS:") }
    val heap = ManagementFactory.getMemoryMXBean().heapMemoryUsage.used / 1024
    return Memory(line.filter { it.isDigit() }.toLong(), heap)
}
