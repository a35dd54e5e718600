package io.movinetedge.preprocess

import io.movinetedge.bundle.Rescale
import kotlin.math.floor
import kotlin.math.min

/** Makes a fitted frame [height, width, 3] smaller once more, for graphs of another scale. */
internal class Rescaler(
    private val rule: Rescale,
    private val height: Int,
    private val width: Int,
    val toHeight: Int,
    val toWidth: Int,
) {
    private val rows = rescaleWeights(height, toHeight, rule)
    private val columns = rescaleWeights(width, toWidth, rule)
    private val tall = FloatArray(toHeight * width * CHANNELS)

    /** Write [frame] to [target], [toHeight, toWidth, 3]. */
    fun apply(
        frame: FloatArray,
        target: FloatArray,
    ) {
        for (y in 0 until toHeight) {
            for (i in 0 until width * CHANNELS) tall[y * width * CHANNELS + i] = down(frame, y, i)
        }
        for (y in 0 until toHeight) {
            for (x in 0 until toWidth * CHANNELS) {
                target[y * toWidth * CHANNELS + x] = across(y, x / CHANNELS, x % CHANNELS)
            }
        }
    }

    /** The weighted sum of value [i] of all rows that count for row [y]. */
    private fun down(
        frame: FloatArray,
        y: Int,
        i: Int,
    ): Float {
        var sum = 0f
        for (w in rows.begin(y) until rows.begin(y + 1)) {
            sum += rows.weights[w] * frame[rows.source(y, w) * width * CHANNELS + i]
        }
        return sum
    }

    /** The same of colour [c] of all columns that count for column [x], in row [y]. */
    private fun across(
        y: Int,
        x: Int,
        c: Int,
    ): Float {
        var sum = 0f
        for (w in columns.begin(x) until columns.begin(x + 1)) {
            sum += columns.weights[w] * tall[(y * width + columns.source(x, w)) * CHANNELS + c]
        }
        return sum
    }
}

/** The source pixels of each target pixel, neighbours, with their weights. */
internal class TargetWeights(
    private val firsts: IntArray,
    private val begins: IntArray,
    val weights: FloatArray,
) {
    /** Where the weights of a target pixel begin; they end where the next one's begin. */
    fun begin(target: Int): Int = begins[target]

    fun source(
        target: Int,
        index: Int,
    ): Int = firsts[target] + index - begins[target]
}

/** From [source] pixels along one side to [target], by [rule]. */
internal fun rescaleWeights(
    source: Int,
    target: Int,
    rule: Rescale,
): TargetWeights {
    val rows = List(target) { weightsOf(it, source, target, rule) }
    val begins = rows.runningFold(0) { sum, (_, weights) -> sum + weights.size }
    return TargetWeights(
        IntArray(target) { rows[it].first },
        begins.toIntArray(),
        rows.flatMap { it.second }.toFloatArray(),
    )
}

/** The first source pixel of a target pixel, and the weights from it on. */
private fun weightsOf(
    row: Int,
    source: Int,
    target: Int,
    rule: Rescale,
): Pair<Int, List<Float>> =
    when (rule) {
        Rescale.NEAREST -> {
            val scale = source.toFloat() / target.toFloat() // as engines compute it
            min(floor(row * scale).toInt(), source - 1) to listOf(1f)
        }

        Rescale.BILINEAR -> {
            val place = ((row + 0.5) * source / target - 0.5).coerceIn(0.0, source - 1.0)
            val low = floor(place).toInt()
            val share = place - low
            if (low == source - 1) {
                low to listOf(1f)
            } else {
                low to listOf((1 - share).toFloat(), share.toFloat())
            }
        }

        Rescale.AREA -> {
            val first = row * source / target
            val last = ((row + 1) * source + target - 1) / target
            first to List(last - first) { (1.0 / (last - first)).toFloat() }
        }
    }
