package io.movinetedge.preprocess

private const val BITS = 16
private const val ONE = 1 shl BITS
private const val HALF = 1 shl (BITS - 1)
private const val GREY = 128
private const val FULL = 255.0
private const val LUMA = 219.0
private const val CHROMA = 224.0
private const val BLACK = 16

/** The weights of red and blue in luma: ITU-R BT.601 (cameras, small videos) and BT.709 (HD). */
public enum class ColourMatrix(
    internal val red: Double,
    internal val blue: Double,
) {
    BT601(0.299, 0.114),
    BT709(0.2126, 0.0722),
}

/**
 * From Y'CbCr in bytes to R'G'B' in bytes, in fixed point; at most one level off the exact values.
 *
 * [fullRange]: luma and chroma use 0..255, as cameras' do, instead of 16..235 and 16..240.
 */
internal class Colours(
    matrix: ColourMatrix,
    fullRange: Boolean,
) {
    private val black = if (fullRange) 0 else BLACK
    private val light = fixed(if (fullRange) 1.0 else FULL / LUMA)
    private val redOfCr: Int
    private val greenOfCb: Int
    private val greenOfCr: Int
    private val blueOfCb: Int

    init {
        val scale = if (fullRange) 1.0 else FULL / CHROMA
        val green = 1 - matrix.red - matrix.blue
        val red = 2 * (1 - matrix.red) * scale
        val blue = 2 * (1 - matrix.blue) * scale
        redOfCr = fixed(red)
        blueOfCb = fixed(blue)
        greenOfCr = fixed(red * matrix.red / green)
        greenOfCb = fixed(blue * matrix.blue / green)
    }

    /** Write red, green and blue of a pixel to [rgb] from [at] on. */
    fun write(
        y: Int,
        cb: Int,
        cr: Int,
        rgb: FloatArray,
        at: Int,
    ) {
        val luma = (y - black) * light + HALF
        val u = cb - GREY
        val v = cr - GREY
        rgb[at] = level(luma + redOfCr * v)
        rgb[at + 1] = level(luma - greenOfCb * u - greenOfCr * v)
        rgb[at + 2] = level(luma + blueOfCb * u)
    }

    private fun level(fixed: Int): Float = (fixed shr BITS).coerceIn(0, FULL.toInt()).toFloat()
}

private fun fixed(value: Double): Int = Math.round(value * ONE).toInt()
