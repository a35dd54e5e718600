package io.movinetedge.app.live

import io.movinetedge.bench.percentile
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.min

private const val NANOS = 1e9

/** The newest [capacity] durations in ms. */
class LatencyWindow(
    private val capacity: Int = 120,
) {
    private val values = DoubleArray(capacity)
    private var count = 0L

    fun add(ms: Double) {
        values[(count++ % capacity).toInt()] = ms
    }

    /** Of what it holds; null where that is nothing. */
    fun percentile(percent: Int): Double? {
        val held = values.copyOf(min(count, capacity.toLong()).toInt())
        return if (held.isEmpty()) null else percentile(held.sortedArray(), percent)
    }

    fun clear() {
        count = 0
    }
}

/** How often something happens, over the last [seconds]. */
class RateMeter(
    private val seconds: Double = 4.0,
) {
    private val times = ArrayDeque<Long>()

    /** It happened at [nanos], which never go back. */
    fun add(nanos: Long) {
        times.addLast(nanos)
        while (nanos - times.first() > seconds * NANOS) times.removeFirst()
    }

    /** Times per second; null until it happened twice. */
    fun rate(): Double? {
        if (times.size < 2) return null
        val span = (times.last() - times.first()) / NANOS
        return if (span > 0) (times.size - 1) / span else null
    }

    fun clear() = times.clear()
}

/**
 * Probabilities that go to new ones little by little, as quickly at any frame rate: after
 * [halfLife] seconds half of the way.
 */
class Smoother(
    classes: Int,
    private val halfLife: Double = 0.25,
) {
    val values = FloatArray(classes)
    private var last = 0L
    private var isEmpty = true

    /** Go on to [target], seen at [nanos]. The first ones are taken as they are. */
    fun add(
        target: FloatArray,
        nanos: Long,
    ) {
        val elapsed = (nanos - last) / NANOS
        val share = if (isEmpty) 1f else (1 - exp(-ln(2.0) * elapsed / halfLife)).toFloat()
        for (i in values.indices) values[i] += share * (target[i] - values[i])
        last = nanos
        isEmpty = false
    }

    fun clear() {
        isEmpty = true
        values.fill(0f)
    }
}
