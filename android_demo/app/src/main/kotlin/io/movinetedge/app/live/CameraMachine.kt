package io.movinetedge.app.live

import io.movinetedge.app.Trouble

/** What a camera is made to do. Each `open` is one [attempt]; what is told of earlier ones is stale. */
interface CameraPort {
    fun open(
        attempt: Int,
        front: Boolean,
    )

    /** Release everything, whatever of it is there. */
    fun close()
}

/**
 * When the camera is opened and closed: it is held only while the screen is in front, may use it and
 * has a surface to show it on. For the main thread.
 *
 * @param tell is told of every new state.
 */
class CameraMachine(
    private val port: CameraPort,
    front: Boolean = false,
    private val tell: (State) -> Unit,
) {
    enum class State { CLOSED, OPENING, CONFIGURING, STREAMING, FAILED }

    var state = State.CLOSED
        private set

    /** Why it failed; null in other states. */
    var trouble: Trouble? = null
        private set
    var front = front
        private set
    private var attempt = 0
    private var isResumed = false
    private var isPermitted = false
    private var hasSurface = false

    /** The screen is in front, and may use the camera or not. */
    fun resume(permitted: Boolean) {
        isResumed = true
        isPermitted = permitted
        settle()
    }

    fun pause() {
        isResumed = false
        settle()
    }

    fun surface(isThere: Boolean) {
        hasSurface = isThere
        settle()
    }

    /** Use the other camera. */
    fun turnAround() {
        front = !front
        release(State.CLOSED)
        settle()
    }

    /** Try again after a failure. */
    fun retry() {
        if (state == State.FAILED) release(State.CLOSED)
        settle()
    }

    /** A device has opened. Whether it is still wanted; if not, whoever opened it closes it. */
    fun opened(attempt: Int): Boolean {
        if (attempt != this.attempt || state != State.OPENING) return false
        enter(State.CONFIGURING)
        return true
    }

    fun streaming(attempt: Int) {
        if (attempt == this.attempt && state == State.CONFIGURING) enter(State.STREAMING)
    }

    /** The device of that attempt is gone or broken. */
    fun failed(
        attempt: Int,
        trouble: Trouble,
    ) {
        if (attempt != this.attempt || state == State.CLOSED || state == State.FAILED) return
        release(State.FAILED, trouble)
    }

    private fun settle() {
        val isWanted = isResumed && isPermitted && hasSurface
        if (!isWanted && state != State.CLOSED) release(State.CLOSED)
        if (isWanted && state == State.CLOSED) {
            enter(State.OPENING)
            port.open(++attempt, front)
        }
    }

    private fun release(
        next: State,
        why: Trouble? = null,
    ) {
        if (state != State.CLOSED) port.close()
        attempt++ // what comes of this one is stale
        enter(next, why)
    }

    private fun enter(
        next: State,
        why: Trouble? = null,
    ) {
        if (state == next && trouble == why) return
        state = next
        trouble = why
        tell(next)
    }
}
