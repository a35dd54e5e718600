package io.movinetedge.app.video

import io.movinetedge.preprocess.Frame
import java.io.Closeable

/** A picture of a film, [nanos] after its beginning. */
class TimedFrame(
    val frame: Frame,
    val nanos: Long,
)

/** A film, picture by picture. */
interface FrameSource : Closeable {
    /**
     * The next picture, which is no longer to be read once another one is asked for; null behind the
     * last.
     *
     * @throws java.io.IOException it cannot be decoded.
     */
    fun next(): TimedFrame?
}
