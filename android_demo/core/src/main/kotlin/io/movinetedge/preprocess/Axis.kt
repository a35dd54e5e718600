package io.movinetedge.preprocess

import kotlin.math.abs
import kotlin.math.max

/**
 * A bilinear resize along one axis, by source pixel: pixel `s` weighs `weights[begin(s) + i]` in the
 * target pixels `first(s) + i`. Pixels before [from] and from [until] on weigh nothing.
 */
internal class Axis(
    private val firsts: IntArray,
    private val begins: IntArray,
    val weights: FloatArray,
    val from: Int,
    val until: Int,
) {
    fun first(source: Int): Int = firsts[source]

    fun begin(source: Int): Int = begins[source]

    /** How many target pixels it weighs in. */
    fun count(source: Int): Int = begins[source + 1] - begins[source]

    /** The same for an axis that runs the other way in memory. */
    fun mirrored(): Axis {
        val n = firsts.size
        val counts = IntArray(n + 1)
        for (s in 0 until n) counts[s + 1] = counts[s] + count(n - 1 - s)
        val moved = FloatArray(weights.size)
        for (s in 0 until n) {
            weights.copyInto(moved, counts[s], begins[n - 1 - s], begins[n - s])
        }
        return Axis(firsts.reversedArray(), counts, moved, n - until, n - from)
    }
}

/**
 * Weights of a resize of [length] of [source] pixels from [start] on to [target] pixels: half-pixel
 * centres; with [antialias] the triangle widens by the shrinking factor. Weights outside the picture
 * are left out and the rest normalised, as TensorFlow and Pillow do.
 */
internal fun resizeAxis(
    source: Int,
    target: Int,
    start: Double,
    length: Double,
    antialias: Boolean,
): Axis {
    val scale = length / target
    val radius = if (antialias) max(scale, 1.0) else 1.0
    val weights =
        Array(target) { t ->
            var centre = start + (t + 0.5) * scale
            if (!antialias) centre = centre.coerceIn(0.5, source - 0.5)
            val row = DoubleArray(source) { max(0.0, 1 - abs(it + 0.5 - centre) / radius) }
            val sum = row.sum()
            FloatArray(source) { (row[it] / sum).toFloat() }
        }
    return bySource(source, weights)
}

/** Dense weights `[target][source]` turned round; those of a source pixel are neighbours. */
private fun bySource(
    source: Int,
    weights: Array<FloatArray>,
): Axis {
    val firsts = IntArray(source)
    val begins = IntArray(source + 1)
    val kept = ArrayList<Float>()
    for (s in 0 until source) {
        val first = weights.indexOfFirst { it[s] != 0f }
        if (first >= 0) {
            val last = weights.indexOfLast { it[s] != 0f }
            firsts[s] = first
            for (t in first..last) kept += weights[t][s]
        }
        begins[s + 1] = kept.size
    }
    val used = (0 until source).filter { begins[it + 1] > begins[it] }
    return Axis(firsts, begins, kept.toFloatArray(), used.first(), used.last() + 1)
}
