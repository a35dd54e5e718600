package io.movinetedge.bundle

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable

/**
 * Run [graph] at every frame n with n % [every] == [offset]; with [when] only at frames for which the
 * plan's choice is the action of that name.
 */
@Serializable
public data class PlanStep(
    val graph: String,
    val every: Int = 1,
    val offset: Int = 0,
    val `when`: String? = null,
)

/**
 * What can be done with a frame. With a [skip] this frame and so many less one after it are not
 * looked at. [cost] is in the choice's unit.
 */
@Serializable
public data class Action(
    val name: String,
    val skip: Int = 0,
    val cost: Double,
)

/**
 * What is done with a frame: the action with the highest score in [output] of [graph].
 *
 * An action that skips holds for `skip` frames. Meanwhile the graph does not run; where states are
 * named in [goingOn] it runs all the same, and those alone take their new values.
 */
@Serializable
public data class Choice(
    val graph: String,
    val output: String = "action",
    val actions: List<Action>,
    val unit: String = "GFLOPs",
    @SerialName("going_on") val goingOn: List<String> = emptyList(),
)

/** What the answer is made of, where several graphs or frames have given one. */
@Serializable
public enum class Combine {
    /** That of the graph that ran last. */
    @SerialName("last")
    LAST,

    /** The mean over all graphs that have answered, each with its newest logits. */
    @SerialName("mean")
    MEAN,

    /** The mean over all frames that were looked at. */
    @SerialName("looks")
    LOOKS,
}

/**
 * Which graph runs when, and what the answer is.
 *
 * Features pass between graphs by name. A network that looks ahead answers [delay] frames late, and
 * behind the last frame so many more steps with `valid` 0 complete the answer.
 */
@Serializable
public data class Plan(
    val steps: List<PlanStep>,
    val answer: String = "logits",
    val combine: Combine = Combine.LAST,
    val delay: Int = 0,
    val choice: Choice? = null,
) {
    /** After how many frames the plan repeats. */
    public val period: Int get() = steps.fold(1) { all, step -> leastCommonMultiple(all, step.every) }
}

/** The smallest number that both divide. */
internal fun leastCommonMultiple(
    a: Int,
    b: Int,
): Int {
    var (x, y) = a to b
    while (y != 0) x = y.also { y = x % y }
    return a / x * b
}
