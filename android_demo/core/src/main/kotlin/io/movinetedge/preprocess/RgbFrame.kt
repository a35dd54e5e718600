package io.movinetedge.preprocess

/**
 * RGB in bytes [height, width, 3].
 *
 * @param bytes may hold more; the frame begins at [offset], which can be moved to the next one.
 * @throws IllegalArgumentException [bytes] are too few.
 */
public class RgbFrame(
    private val bytes: ByteArray,
    override val height: Int,
    override val width: Int,
    override val rotation: Int = 0,
) : Frame {
    /** Where the frame begins in the bytes. */
    public var offset: Int = 0
        set(value) {
            require(value >= 0 && value + size <= bytes.size) { "there is no frame at $value" }
            field = value
        }

    /** The bytes of a frame. */
    public val size: Int get() = height * width * CHANNELS

    init {
        requireRightAngle(rotation)
        require(bytes.size >= size) { "${bytes.size} bytes are no frame of $height x $width" }
    }

    override fun readRow(
        y: Int,
        from: Int,
        until: Int,
        rgb: FloatArray,
    ) {
        val first = offset + (y * width + from) * CHANNELS
        for (i in 0 until (until - from) * CHANNELS) {
            rgb[i] = (bytes[first + i].toInt() and 0xFF).toFloat()
        }
    }
}
