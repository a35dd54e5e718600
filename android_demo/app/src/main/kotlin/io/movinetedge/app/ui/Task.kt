package io.movinetedge.app.ui

import android.os.Handler
import android.os.Looper
import kotlin.concurrent.thread

/**
 * Work on a thread of its own that outlives its screen while that is made anew. How far it is, [S], is
 * for the main thread.
 */
class Task<S>(
    initial: S,
) {
    private val main = Handler(Looper.getMainLooper())
    private var worker: Thread? = null
    private var number = 0

    var state: S = initial
        private set

    /** Who is told of every new state, and first of the present one. */
    var listener: ((S) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(state)
        }

    val isRunning: Boolean get() = worker != null

    /** Do [work], which says how far it is, in place of what was being done. */
    fun start(work: (say: (S) -> Unit) -> Unit) {
        stop()
        val own = ++number
        worker =
            thread(name = "task") {
                work { next -> main.post { if (own == number) enter(next) } }
                main.post { if (own == number) end() }
            }
    }

    /** Go to [state] without any work; what was being done is told to stop. */
    fun set(state: S) {
        stop()
        enter(state)
    }

    /** What is being done is told to stop, and not listened to any more. */
    fun stop() {
        number++
        worker?.interrupt()
        worker = null
    }

    private fun enter(next: S) {
        state = next
        listener?.invoke(next)
    }

    private fun end() {
        worker = null
        listener?.invoke(state)
    }
}
