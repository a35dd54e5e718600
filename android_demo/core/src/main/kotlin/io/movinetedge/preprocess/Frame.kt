package io.movinetedge.preprocess

/**
 * A picture as it lies in memory, [height] x [width] pixels, to be turned clockwise by [rotation]
 * degrees (0, 90, 180 or 270) until it is upright.
 */
public interface Frame {
    public val height: Int
    public val width: Int
    public val rotation: Int

    /**
     * Write the pixels [from] until [until] of row [y] to the start of [rgb], three values in 0..255
     * a pixel.
     */
    public fun readRow(
        y: Int,
        from: Int,
        until: Int,
        rgb: FloatArray,
    )
}

internal const val CHANNELS = 3

private const val QUARTER = 90
private const val TURN = 360

/** @throws IllegalArgumentException an angle that turns no rectangle into an upright one. */
internal fun requireRightAngle(rotation: Int) {
    require(rotation in 0 until TURN && rotation % QUARTER == 0) {
        "a frame is turned by 0, 90, 180 or 270 degrees, not by $rotation"
    }
}
