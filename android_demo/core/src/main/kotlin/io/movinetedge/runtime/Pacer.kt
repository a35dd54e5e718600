package io.movinetedge.runtime

import kotlin.math.floor
import kotlin.math.min

private const val NANOS = 1e9

// Cameras' frames come a little early or late; one that comes this much early is in time.
private const val SLACK_SECONDS = 0.004
private const val SLACK_TURNS = 0.25

/**
 * Chooses frames of a camera for a stream of [frameRate] frames per second, by their timestamps: the
 * first one of each turn. What comes between is dropped, never queued.
 */
public class Pacer(
    private val frameRate: Double,
) {
    private val slack = min(SLACK_SECONDS, SLACK_TURNS / frameRate)
    private var start = 0L
    private var turn = -1L

    /** Frames that were dropped because their turn had had one. */
    public var dropped: Long = 0
        private set

    /** Turns for which no frame came in time, as when a step takes too long. */
    public var missed: Long = 0
        private set

    /** Whether the frame taken at [nanos] is the stream's next one. */
    public fun takes(nanos: Long): Boolean {
        if (turn < 0) {
            start = nanos
            turn = 0
            return true
        }
        val now = floor(((nanos - start) / NANOS + slack) * frameRate).toLong()
        if (now <= turn) {
            dropped++
            return false
        }
        missed += now - turn - 1
        turn = now
        return true
    }

    /** Begin anew with the next frame. */
    public fun reset() {
        turn = -1
        dropped = 0
        missed = 0
    }
}
