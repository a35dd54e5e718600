package io.movinetedge.runtime

import io.movinetedge.bundle.Scores
import kotlin.math.exp

private const val LEAST = -80.0f

/**
 * The answer after a frame, of everything seen so far. A stream has one, which its next step changes.
 *
 * [logits] are [classes]; where the graph ends in a softmax they are log-probabilities, the same up to
 * a constant.
 */
public class Answer internal constructor(
    classes: Int,
) {
    /** The number of the frame, counted from 0. */
    public var frame: Int = 0
        internal set

    /** What was done with the frame, where the model decides on that: its number and name. */
    public var action: Int = -1
        internal set
    public var actionName: String? = null
        internal set

    public val logits: FloatArray = FloatArray(classes)

    /** Write the probabilities of the classes to [target]. */
    public fun probabilities(
        scores: Scores,
        target: FloatArray,
    ) {
        if (scores == Scores.SIGMOID) {
            for (i in logits.indices) target[i] = 1 / (1 + exp(-maxOf(logits[i], LEAST)))
            return
        }
        var largest = Float.NEGATIVE_INFINITY
        for (value in logits) largest = maxOf(largest, value)
        var sum = 0f
        for (i in logits.indices) {
            target[i] = exp(logits[i] - largest)
            sum += target[i]
        }
        for (i in logits.indices) target[i] /= sum
    }
}

/** Write the numbers of the best values to [target], best first; of equals the first comes first. */
public fun topOf(
    values: FloatArray,
    target: IntArray,
) {
    for (place in target.indices) {
        var best = -1
        for (i in values.indices) {
            if (isAmong(i, target, place)) continue
            if (best < 0 || values[i] > values[best]) best = i
        }
        target[place] = best
    }
}

private fun isAmong(
    number: Int,
    target: IntArray,
    count: Int,
): Boolean {
    for (i in 0 until count) if (target[i] == number) return true
    return false
}
