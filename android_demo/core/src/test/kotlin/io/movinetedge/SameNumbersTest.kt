package io.movinetedge

import io.movinetedge.bundle.Bundle
import io.movinetedge.check.Replayed
import io.movinetedge.check.checkGolden
import io.movinetedge.check.deviation
import io.movinetedge.check.readGolden
import io.movinetedge.check.replay
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TfliteEngines
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import kotlin.math.abs

// Of the logits' deviation. ONNX Runtime computes the same on the JVM as in Python; TensorFlow Lite's
// natives for the JVM are years older than the LiteRT that Python runs.
private const val SAME = 1e-5

// Between two generations of kernels in 8 bits, each of which rounds its own way.
private const val ROUNDED = 0.25

/** Every bundle on real engines answers as the Python runtime does. */
class SameNumbersTest {
    @ParameterizedTest
    @MethodSource("answers")
    fun `golden streams are answered as in Python`(python: PythonAnswers) {
        Bundle(python.bundle).use { bundle ->
            Stream(bundle, python.engine, StreamOptions(python.precision)).use { stream ->
                val replayed = replay(stream, readGolden(bundle))
                val answers = replayed.answers
                assertArrayEquals(python.frames, IntArray(answers.size) { answers[it].frame })
                assertArrayEquals(python.actions, IntArray(answers.size) { answers[it].action })
                val error = largestError(python, replayed)
                println("$python: $error of the deviation (${stream.engine.library} ${stream.version})")
                assertTrue(error <= limit(bundle, stream))
                assertEquals(emptyList<String>(), checkGolden(bundle, stream).problems)
            }
        }
    }

    private fun limit(
        bundle: Bundle,
        stream: Stream,
    ): Double {
        val own = bundle.manifest.thresholds.getValue(stream.precision)
        return when {
            stream.engine == OrtEngines -> SAME
            stream.precision == "int8" -> ROUNDED
            else -> own.maxError
        }
    }

    /**
     * TensorFlow Lite 2.6 knows no scales per channel in dense layers with floats around them; the file
     * says that it needs a newer one. What matters: the check on the device notices.
     */
    @Test
    fun `an engine that is too old for int8 is noticed`() {
        Bundle(Fixtures.bundle("int8")).use { bundle ->
            Stream(bundle, TfliteEngines(), StreamOptions("int8")).use { stream ->
                assertFalse(checkGolden(bundle, stream).holds)
            }
        }
    }

    companion object {
        // Without its dense layers in 8 bits, as `int8-dense`, the same model is not.
        private fun isTooNew(python: PythonAnswers) =
            python.backend == "litert" && python.precision == "int8" && python.name == "int8"

        @JvmStatic
        fun answers() = Fixtures.answers.filterNot(::isTooNew)
    }
}

/** Between all answers, the final one too, over the deviation of Python's. */
private fun largestError(
    python: PythonAnswers,
    replayed: Replayed,
): Double {
    val wanted = python.logits + listOf(python.final)
    val got = replayed.answers.map { it.logits } + listOf(replayed.final!!.logits)
    assertEquals(wanted.size, got.size)
    val errors = wanted.zip(got) { a, b -> a.indices.maxOf { abs(a[it].toDouble() - b[it]) } }
    return errors.max() / deviation(wanted)
}
