package io.movinetedge.app.video

import android.graphics.Bitmap
import android.os.Handler
import android.os.Looper
import android.os.SystemClock
import io.movinetedge.app.live.Pipeline
import io.movinetedge.app.live.pictureOf
import java.io.IOException

private const val PICTURE = 480
private const val NANOS_PER_MS = 1_000_000L

/** What a player tells its screen, on the main thread. */
interface PlayerListener {
    fun onPicture(picture: Bitmap)

    fun onEnd()

    fun onUnreadable(error: IOException)
}

/**
 * Shows a film to a pipeline, on the pipeline's thread: in real time, or slower where steps take
 * longer, so that none of the pictures whose turn it is is left out.
 */
class Player(
    private val pipeline: Pipeline,
    private val open: () -> FrameSource,
) {
    private val main = Handler(Looper.getMainLooper())
    private var source: FrameSource? = null
    private var begin = 0L

    /** Who is told; for the main thread. */
    var listener: PlayerListener? = null
        set(value) {
            field = value
            newest?.let { value?.onPicture(it) }
            if (hasEnded) value?.onEnd()
            failure?.let { value?.onUnreadable(it) }
        }
    private var newest: Bitmap? = null
    private var hasEnded = false
    private var failure: IOException? = null

    /** Show the film from its beginning. */
    fun play() {
        hasEnded = false
        failure = null
        pipeline.restart()
        pipeline.handler.removeCallbacks(pump)
        pipeline.handler.post {
            finish()
            guarded {
                source = open()
                begin = SystemClock.uptimeMillis()
                pump.run()
            }
        }
    }

    /** Stop for good. */
    fun stop() {
        listener = null
        pipeline.handler.removeCallbacks(pump)
        pipeline.handler.post(::finish)
    }

    private val pump: Runnable = Runnable { guarded(::advance) }

    private fun advance() {
        val timed = source?.next()
        if (timed == null) {
            finish()
            main.post {
                hasEnded = true
                listener?.onEnd()
            }
            return
        }
        if (pipeline.take(timed.frame, timed.nanos)) {
            val picture = pictureOf(timed.frame, PICTURE)
            main.post {
                newest = picture
                listener?.onPicture(picture)
            }
        }
        pipeline.handler.postAtTime(pump, begin + timed.nanos / NANOS_PER_MS)
    }

    private fun finish() {
        source?.close()
        source = null
    }

    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (error: IOException) {
            finish()
            main.post {
                failure = error
                listener?.onUnreadable(error)
            }
        }
    }
}
