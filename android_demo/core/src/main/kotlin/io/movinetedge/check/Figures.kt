package io.movinetedge.check

import io.movinetedge.bundle.Threshold
import java.util.Locale
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.sqrt

private const val NEARLY_ZERO = 0.25 // a step's logits, of the root mean square of all steps'

/**
 * How far the answers of one stream are from the reference.
 *
 * [maxError] is the largest absolute error divided by [deviation], the standard deviation of all
 * reference logits of the stream; not finite where an answer is not. Steps whose best two classes are
 * too close to call do not count for [top1Agreement], nor those whose logits are nearly zero beside
 * others' for [minCosine].
 */
public data class Figures(
    val steps: Int,
    val deviation: Double,
    val maxError: Double,
    val minCosine: Double,
    val top1Agreement: Double,
    val worstStep: Int,
) {
    /** What exceeds a threshold, in words; empty where parity holds. */
    public fun shortcomings(limits: Threshold): List<String> {
        if (!maxError.isFinite()) return listOf("the answers hold NaN or infinity")
        return listOfNotNull(
            "error ${short(maxError)} above ${short(limits.maxError)}".takeIf { maxError > limits.maxError },
            "cosine ${plain(minCosine)} below ${plain(limits.minCosine)}"
                .takeIf { minCosine < limits.minCosine },
            "top-1 agreement ${plain(top1Agreement)} below ${plain(limits.minTop1Agreement)}"
                .takeIf { top1Agreement < limits.minTop1Agreement },
        )
    }
}

/** An error, in as many digits as mean something. */
internal fun short(value: Double): String = "%.3g".format(Locale.ROOT, value)

/** What is 1 at best: its distance from 1 matters. */
private fun plain(value: Double): String = "%.6f".format(Locale.ROOT, value)

/** Compare [answers] with the [reference], both logits [steps, classes] of at least one step. */
public fun measure(
    reference: List<FloatArray>,
    answers: List<FloatArray>,
    limits: Threshold,
): Figures {
    val deviation = deviation(reference).takeIf { it > 0 } ?: 1.0
    val errors = reference.zip(answers) { wanted, got -> largestError(wanted, got) / deviation }
    val worst = errors.indices.maxByOrNull { if (errors[it].isNaN()) Double.MAX_VALUE else errors[it] }
    return Figures(
        steps = answers.size,
        deviation = deviation,
        maxError = if (errors.any { it.isNaN() }) Double.NaN else errors.max(),
        minCosine = minCosine(reference, answers),
        top1Agreement = top1Agreement(reference, answers, 2 * limits.maxError * deviation),
        worstStep = worst ?: 0,
    )
}

/** The standard deviation of all values. */
internal fun deviation(rows: List<FloatArray>): Double {
    val count = rows.sumOf { it.size }
    val mean = rows.sumOf { row -> row.sumOf { it.toDouble() } } / count
    return sqrt(rows.sumOf { row -> row.sumOf { (it - mean) * (it - mean) } } / count)
}

/** NaN where a value is none or infinite. */
private fun largestError(
    wanted: FloatArray,
    got: FloatArray,
): Double {
    var largest = 0.0
    for (i in wanted.indices) {
        if (!got[i].isFinite()) return Double.NaN
        largest = max(largest, abs(got[i].toDouble() - wanted[i]))
    }
    return largest
}

private fun minCosine(
    reference: List<FloatArray>,
    answers: List<FloatArray>,
): Double {
    val sizes = reference.map { sqrt(product(it, it)) }
    val typical = sqrt(sizes.sumOf { it * it } / sizes.size)
    val judged = reference.indices.filter { sizes[it] > 0 && sizes[it] >= NEARLY_ZERO * typical }
    return judged.minOfOrNull { step ->
        val norm = sizes[step] * sqrt(product(answers[step], answers[step]))
        val cosine = product(reference[step], answers[step]) / max(norm, Double.MIN_VALUE)
        if (cosine.isFinite()) cosine else -1.0
    } ?: 1.0
}

private fun product(
    a: FloatArray,
    b: FloatArray,
): Double = a.indices.sumOf { a[it].toDouble() * b[it] }

/** Two classes nearer than [margin] may change places although either is within the limits. */
private fun top1Agreement(
    reference: List<FloatArray>,
    answers: List<FloatArray>,
    margin: Double,
): Double {
    val judged =
        reference.indices.filter { step ->
            val best = reference[step].sortedDescending()
            best.size > 1 && best[0] - best[1] > margin
        }
    if (judged.isEmpty()) return 1.0
    return judged.count { best(reference[it]) == best(answers[it]) }.toDouble() / judged.size
}

private fun best(row: FloatArray): Int = row.indices.maxBy { row[it] }
