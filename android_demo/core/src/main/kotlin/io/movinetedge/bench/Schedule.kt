package io.movinetedge.bench

import io.movinetedge.BadInput

/** How steps follow each other. */
public enum class Mode {
    BACK_TO_BACK,

    /** Each when its frames are there, at the bundle's rate. */
    PACED,

    /** Back to back for minutes. */
    SUSTAINED,
}

/**
 * A mode in numbers: so many [steps], or for [minutes] (paced and sustained runs).
 *
 * Of a run of minutes at most [MAX_SAMPLES] steps are kept.
 */
public data class Schedule(
    val mode: Mode = Mode.BACK_TO_BACK,
    val steps: Int = 200,
    val minutes: Double? = null,
) {
    /** @throws BadInput the numbers do not go together. */
    internal fun check() {
        if (steps < 1) throw BadInput("steps are at least 1, not $steps")
        if (minutes != null && !(minutes > 0)) throw BadInput("minutes are above 0, not $minutes")
        if (minutes != null && mode == Mode.BACK_TO_BACK) {
            throw BadInput("minutes are for paced and sustained runs; give steps, or another mode")
        }
        if (minutes == null && mode == Mode.SUSTAINED) {
            throw BadInput("a sustained run goes on for minutes; say how many")
        }
    }

    /** How many samples there is room for. */
    internal val room: Int get() = if (minutes == null) steps else MAX_SAMPLES
}

internal const val MAX_SAMPLES = 1_000_000
