package io.movinetedge.app.live

import android.graphics.ImageFormat
import android.graphics.Rect
import android.media.Image
import io.movinetedge.preprocess.YuvFrame
import java.nio.ByteBuffer
import io.movinetedge.preprocess.Plane as FramePlane

private const val JUNK = 77 // what lies between the values

/**
 * A picture as cameras hand it over, with a gradient of its own in each plane.
 *
 * @param pixelStride of the chroma planes; at 2 they lie in one another, U before V.
 * @param padding bytes at the end of each row.
 * @param seen what is meant to be seen; null: the image does not say.
 */
class GradientImage(
    private val size: Side,
    private val pixelStride: Int,
    private val padding: Int = 0,
    private val seen: Rect? = null,
    private val nanos: Long = 0,
) : Image() {
    @Volatile var isClosed = false
        private set

    private val half = Side((size.width + 1) / 2, (size.height + 1) / 2)

    override fun getFormat() = ImageFormat.YUV_420_888

    override fun getWidth() = size.width

    override fun getHeight() = size.height

    override fun getTimestamp() = nanos

    override fun getCropRect() = seen ?: Rect()

    override fun getTransform() = 0

    override fun getScalingMode() = 0

    override fun close() {
        isClosed = true
    }

    override fun getPlanes(): Array<Image.Plane> {
        val luma = laid(size, 1, listOf(::luma))
        if (pixelStride == 1) return arrayOf(luma, laid(half, 1, listOf(::cb)), laid(half, 1, listOf(::cr)))
        val both = laid(half, 2, listOf(::cb, ::cr))
        return arrayOf(luma, both.from(0), both.from(1))
    }

    /** The same, laid out by hand: without strides, and without what is not to be seen. */
    fun byHand(
        rotation: Int,
        colouring: Colouring = Colouring(),
    ): YuvFrame {
        val all = seen ?: Rect(0, 0, size.width, size.height)
        val (width, height) = all.width() to all.height()

        fun chroma(value: (Int, Int) -> Int): FramePlane {
            val columns = (width + 1) / 2
            val bytes =
                ByteArray(columns * ((height + 1) / 2)) {
                    value(all.left / 2 + it % columns, all.top / 2 + it / columns).toByte()
                }
            return FramePlane(ByteBuffer.wrap(bytes), columns, 1)
        }
        val light = ByteArray(width * height) { luma(all.left + it % width, all.top + it / width).toByte() }
        val luma = FramePlane(ByteBuffer.wrap(light), width, 1)
        val (fullRange, matrix) = colouring
        return YuvFrame(height, width, luma, chroma(::cb), chroma(::cr), rotation, fullRange, matrix)
    }

    private fun luma(
        x: Int,
        y: Int,
    ) = 16 + (x * 3 + y * 2) % 220

    private fun cb(
        x: Int,
        y: Int,
    ) = 40 + (x * 5 + y) % 150

    private fun cr(
        x: Int,
        y: Int,
    ) = 210 - (x + y * 7) % 150

    /** Planes in one another; the last one ends with its last value, as on phones. */
    private fun laid(
        side: Side,
        stride: Int,
        values: List<(Int, Int) -> Int>,
    ): Laid {
        val row = side.width * stride + padding
        val bytes = ByteBuffer.allocateDirect(row * side.height - padding)
        for (at in 0 until bytes.capacity()) {
            val (x, y) = at % row / stride to at / row
            bytes.put(at, (if (x < side.width) values[at % row % stride](x, y) else JUNK).toByte())
        }
        return Laid(bytes, row, stride)
    }

    private class Laid(
        private val bytes: ByteBuffer,
        private val row: Int,
        private val pixel: Int,
    ) : Image.Plane() {
        override fun getRowStride() = row

        override fun getPixelStride() = pixel

        override fun getBuffer() = bytes

        fun from(first: Int): Laid {
            val rest = bytes.duplicate()
            rest.position(first)
            // what lies behind the other one's last value is not this one's
            rest.limit(bytes.capacity() - (pixel - 1 - first))
            return Laid(rest.slice(), row, pixel)
        }
    }
}
