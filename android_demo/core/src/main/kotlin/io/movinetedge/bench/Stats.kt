package io.movinetedge.bench

import kotlin.math.floor
import kotlin.math.max

private const val HALF = 50

/** Samples that are added without allocating, up to [capacity]; more are left out. */
internal class Samples(
    capacity: Int,
) {
    private val values = DoubleArray(capacity)
    var size = 0
        private set

    val isFull: Boolean get() = size == values.size

    fun add(value: Double) {
        if (!isFull) values[size++] = value
    }

    fun toArray(): DoubleArray = values.copyOf(size)
}

/** The distribution of at least one sample, in the samples' unit. */
public fun distribution(samples: DoubleArray): Distribution {
    val sorted = samples.sortedArray()
    return Distribution(
        min = sorted.first(),
        p10 = percentile(sorted, 10),
        p50 = percentile(sorted, HALF),
        p90 = percentile(sorted, 90),
        p99 = percentile(sorted, 99),
        mean = samples.average(),
    )
}

/** The median of at least one sample. */
public fun median(samples: DoubleArray): Double = percentile(samples.sortedArray(), HALF)

/** What a long run's samples say about throttling. */
internal fun sustained(
    stepMs: DoubleArray,
    seconds: Double,
    temperatures: List<List<Double>>,
): Sustained {
    val tenth = max(stepMs.size / 10, 1)
    val first = median(stepMs.copyOfRange(0, tenth))
    val last = median(stepMs.copyOfRange(stepMs.size - tenth, stepMs.size))
    return Sustained(seconds, last / first, temperatures)
}

/** A percentile of at least one sample, [sorted]; between two it interpolates linearly, as NumPy does. */
public fun percentile(
    sorted: DoubleArray,
    percent: Int,
): Double {
    val place = percent / 100.0 * (sorted.size - 1)
    val low = floor(place).toInt()
    val high = minOf(low + 1, sorted.size - 1)
    return sorted[low] + (place - low) * (sorted[high] - sorted[low])
}
