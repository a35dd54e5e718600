package io.movinetedge.runtime

import io.movinetedge.BadInput
import io.movinetedge.bundle.Action
import io.movinetedge.bundle.Choice
import kotlin.math.max

/**
 * What a plan decides at each frame: the action with the highest score, and skips that run on.
 *
 * @param costBias times an action's cost is subtracted from its score; more than 0 saves work.
 * @throws BadInput a bias that is no number.
 */
internal class Chooser(
    val choice: Choice,
    costBias: Double,
) {
    private val bias =
        FloatArray(choice.actions.size) { costBias.toFloat() * choice.actions[it].cost.toFloat() }

    /** Of the last decision, before costs. */
    val scores = FloatArray(choice.actions.size)

    /** Of the action, in the order of the scores. */
    var number = 0
        private set
    private var waiting = 0

    init {
        if (!costBias.isFinite()) {
            throw BadInput("the cost bias is a number, not $costBias; 0 leaves decisions alone")
        }
    }

    /** What is done with the present frame. */
    val action: Action get() = choice.actions[number]

    /** Whether a skip that was chosen before goes on at this frame. */
    val holds: Boolean get() = waiting > 0

    /** Take the best action for [scores]; a skip begins to hold. */
    fun decide() {
        var best = 0
        for (i in 1 until scores.size) {
            if (scores[i] - bias[i] > scores[best] - bias[best]) best = i
        }
        number = best
        waiting = action.skip
    }

    fun endFrame() {
        waiting = max(waiting - 1, 0)
    }

    fun reset() {
        waiting = 0
        number = 0
        scores.fill(0f)
    }
}
