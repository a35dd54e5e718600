package io.movinetedge.runtime

import io.movinetedge.bundle.Combine
import io.movinetedge.bundle.Manifest
import io.movinetedge.bundle.Output
import kotlin.math.ln
import kotlin.math.max

private const val TINY = 1.17549435e-38f // the smallest normal float32

/** The newest logits of every graph that has answered, and the answer that they make together. */
internal class AnswerBook(
    private val manifest: Manifest,
) {
    private val combine = manifest.plan.combine
    private val probabilities = manifest.output == Output.PROBABILITIES
    private val newest = HashMap<GraphRunner, FloatArray>()
    private val answered = ArrayList<FloatArray>()
    private var last: FloatArray? = null
    private val looks = DoubleArray(manifest.classes)
    private var count = 0

    val isEmpty: Boolean get() = last == null

    /** Keep what a graph answered last. */
    fun take(runner: GraphRunner) {
        val output = manifest.plan.answer
        if (!runner.answers(output)) return
        val logits = newest[runner] ?: FloatArray(manifest.classes).also { newest[runner] = it }
        if (!hasAnswered(logits)) answered += logits
        // Of a clip the last frame's.
        runner.read(output, logits, runner.sizeOf(output) - manifest.classes)
        if (probabilities) {
            for (i in logits.indices) logits[i] = ln(max(logits[i], TINY))
        }
        last = logits
    }

    /** A frame was looked at: the newest answer counts for the mean over looks. */
    fun look() {
        val logits = last ?: return
        count++
        for (i in looks.indices) looks[i] += (logits[i] - looks[i]) / count
    }

    /** Write the answer to [target]. */
    fun combined(target: FloatArray) {
        when {
            combine == Combine.LOOKS -> for (i in target.indices) target[i] = looks[i].toFloat()
            combine == Combine.MEAN && answered.size > 1 -> mean(target)
            else -> last?.copyInto(target)
        }
    }

    private fun hasAnswered(logits: FloatArray): Boolean {
        for (i in answered.indices) if (answered[i] === logits) return true
        return false
    }

    private fun mean(target: FloatArray) {
        target.fill(0f)
        for (n in answered.indices) {
            val logits = answered[n]
            for (i in target.indices) target[i] += logits[i]
        }
        for (i in target.indices) target[i] /= answered.size.toFloat()
    }

    fun reset() {
        answered.clear()
        last = null
        looks.fill(0.0)
        count = 0
    }
}
