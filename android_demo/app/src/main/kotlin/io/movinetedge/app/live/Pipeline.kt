package io.movinetedge.app.live

import android.os.Handler
import android.os.HandlerThread
import android.os.Looper
import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.app.Setting
import io.movinetedge.engine.EngineFactory
import io.movinetedge.preprocess.Frame
import java.io.File

/** What a pipeline tells its screen, on the main thread. */
interface PipelineListener {
    fun onOpened(opened: Opened)

    fun onAnswer(snapshot: Snapshot)

    /** Nothing runs any more. */
    fun onFailed(error: Exception)
}

/** A stream on a thread of its own. It outlives its screen while that is made anew. */
class Pipeline(
    engines: List<EngineFactory>,
    scratch: File,
) {
    private val thread = HandlerThread("stream").apply { start() }
    private val main = Handler(Looper.getMainLooper())
    private val session = StreamSession(engines, scratch)

    /** Of its thread, on which frames are taken. */
    val handler = Handler(thread.looper)

    /** Who is told; for the main thread. */
    var listener: PipelineListener? = null
        set(value) {
            field = value
            value?.let(::repeat)
        }

    /** What a new listener is told first. */
    private var opened: Opened? = null
    private var newest: Snapshot? = null
    private var failure: Exception? = null

    /** Run the bundle that [path] finds, from the beginning. */
    fun open(
        setting: Setting,
        path: () -> File,
    ) {
        handler.post {
            guarded {
                val result = session.open(path(), setting)
                main.post {
                    opened = result
                    failure = null
                    listener?.onOpened(result)
                }
            }
        }
    }

    /**
     * Take a frame if it is its turn; on the pipeline's thread, to which the frame belongs until this
     * returns. Whether it was taken.
     */
    fun take(
        frame: Frame,
        nanos: Long,
    ): Boolean {
        val snapshot = guarded { session.take(frame, nanos) } ?: return false
        main.post {
            newest = snapshot
            listener?.onAnswer(snapshot)
        }
        return true
    }

    /** Begin a new stream: what comes does not follow what was. */
    fun restart() {
        handler.post(session::restart)
    }

    /** Release the engine, behind what is being done. */
    fun close() {
        listener = null
        handler.post(session::close)
        thread.quitSafely()
    }

    private fun repeat(listener: PipelineListener) {
        opened?.let(listener::onOpened)
        newest?.let(listener::onAnswer)
        failure?.let(listener::onFailed)
    }

    private fun <T> guarded(work: () -> T): T? =
        try {
            work()
        } catch (error: BadInput) {
            fail(error)
        } catch (error: LinkageError) {
            // an engine whose native library is not in this app
            fail(BadInput("the engine's library is not in this app ($error)", error, Fault.NO_DELEGATE))
        }

    private fun fail(error: Exception): Nothing? {
        main.post {
            failure = error
            newest = null
            listener?.onFailed(error)
        }
        return null
    }
}
