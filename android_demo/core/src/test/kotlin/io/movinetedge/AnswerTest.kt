package io.movinetedge

import io.movinetedge.bundle.Scores
import io.movinetedge.runtime.Answer
import io.movinetedge.runtime.topOf
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Test

/** From logits to what is shown. */
class AnswerTest {
    private fun probabilities(
        scores: Scores,
        vararg logits: Float,
    ): FloatArray {
        val answer = Answer(logits.size)
        logits.copyInto(answer.logits)
        return FloatArray(logits.size).also { answer.probabilities(scores, it) }
    }

    @Test
    fun `softmax, also of large logits`() {
        val found = probabilities(Scores.SOFTMAX, 1000f, 1000f, 0f)
        assertArrayEquals(floatArrayOf(0.5f, 0.5f, 0f), found, 1e-6f)
    }

    @Test
    fun `sigmoid, also of small logits`() {
        val found = probabilities(Scores.SIGMOID, 0f, 3f, -1000f)
        assertArrayEquals(floatArrayOf(0.5f, 0.952574f, 0f), found, 1e-6f)
    }

    @Test
    fun `the best come first, of equals the first`() {
        val top = IntArray(4)
        topOf(floatArrayOf(0.1f, 0.3f, 0.2f, 0.3f), top)
        assertArrayEquals(intArrayOf(1, 3, 2, 0), top)
    }
}
