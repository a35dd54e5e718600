package io.movinetedge.preprocess

import java.nio.ByteBuffer

/**
 * One of the three planes of a picture: the value of column x in row y is the byte y * [rowStride] +
 * x * [pixelStride] of [bytes], wherever that buffer stands.
 */
public class Plane(
    public val bytes: ByteBuffer,
    public val rowStride: Int,
    public val pixelStride: Int,
) {
    internal fun require(
        name: String,
        height: Int,
        width: Int,
    ) {
        require(pixelStride >= 1 && rowStride >= 1) { "plane $name has strides below 1" }
        val last = (height - 1) * rowStride + (width - 1) * pixelStride
        require(last < bytes.capacity()) { "plane $name ends before its picture" }
    }
}

/**
 * A frame of a camera or a decoder: YUV 4:2:0, as Android's YUV_420_888 lays it out, of planes Y
 * ([luma]), U ([cb]) and V ([cr]). Each chroma value is for a square of four pixels; at odd sides the
 * last ones are for fewer.
 *
 * @throws IllegalArgumentException planes that are too short, or a rotation that is no right angle.
 */
public class YuvFrame(
    override val height: Int,
    override val width: Int,
    private val luma: Plane,
    private val cb: Plane,
    private val cr: Plane,
    override val rotation: Int = 0,
    fullRange: Boolean = true,
    matrix: ColourMatrix = ColourMatrix.BT601,
) : Frame {
    private val colours = Colours(matrix, fullRange)

    init {
        requireRightAngle(rotation)
        luma.require("Y", height, width)
        cb.require("U", (height + 1) / 2, (width + 1) / 2)
        cr.require("V", (height + 1) / 2, (width + 1) / 2)
    }

    override fun readRow(
        y: Int,
        from: Int,
        until: Int,
        rgb: FloatArray,
    ) {
        val lumaRow = y * luma.rowStride
        val cbRow = y / 2 * cb.rowStride
        val crRow = y / 2 * cr.rowStride
        var at = 0
        for (x in from until until) {
            colours.write(
                luma.bytes.get(lumaRow + x * luma.pixelStride).toInt() and 0xFF,
                cb.bytes.get(cbRow + x / 2 * cb.pixelStride).toInt() and 0xFF,
                cr.bytes.get(crRow + x / 2 * cr.pixelStride).toInt() and 0xFF,
                rgb,
                at,
            )
            at += CHANNELS
        }
    }
}
