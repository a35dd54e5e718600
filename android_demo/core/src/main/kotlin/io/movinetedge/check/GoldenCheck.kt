package io.movinetedge.check

import io.movinetedge.BadInput
import io.movinetedge.CheckFailed
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Output
import io.movinetedge.bundle.Threshold
import io.movinetedge.runtime.Stream

/**
 * What a golden stream showed of one engine and precision.
 *
 * [figures] is null where nothing could be compared; [problems] is empty where the check holds.
 */
public class GoldenResult(
    public val figures: Figures?,
    public val threshold: Threshold,
    public val problems: List<String>,
) {
    public val holds: Boolean get() = problems.isEmpty()
}

/**
 * Replay the bundle's golden stream and compare it with the PyTorch model's answers, by the
 * thresholds of the manifest.
 *
 * @throws BadInput the manifest has no threshold for the precision, or a damaged stream.
 */
public fun checkGolden(
    bundle: Bundle,
    stream: Stream,
    golden: Golden = readGolden(bundle),
): GoldenResult {
    val limits =
        bundle.manifest.thresholds[stream.precision]
            ?: throw BadInput(
                "the manifest has no threshold for ${stream.precision}; export it again",
            )
    val replayed = replay(stream, golden)
    val answers = comparable(bundle, golden, replayed)
    if (answers.isEmpty()) {
        return GoldenResult(null, limits, listOf("there was no answer to the golden stream"))
    }
    val wanted = answers.mapNotNull { golden.logits.getOrNull(rowOf(bundle, golden, it)) }
    if (wanted.size < answers.size) {
        val problem = "${answers.size} answers, of which the reference has ${wanted.size}"
        return GoldenResult(null, limits, listOf(problem))
    }
    val figures = measure(shown(bundle, wanted), shown(bundle, answers.map { it.logits }), limits)
    val problems = figures.shortcomings(limits) + wrongDecisions(golden, replayed, limits)
    return GoldenResult(figures, limits, problems)
}

/**
 * The same, for those who cannot go on without.
 *
 * @throws CheckFailed the check does not hold.
 */
public fun requireGolden(
    bundle: Bundle,
    stream: Stream,
): Figures {
    val result = checkGolden(bundle, stream)
    if (!result.holds || result.figures == null) {
        throw CheckFailed(
            "${stream.engine.name} ${stream.precision} computes wrong numbers: " +
                "${result.problems.joinToString("; ")}; it was not timed",
        )
    }
    return result.figures
}

/** The answers that have a row in the reference. */
private fun comparable(
    bundle: Bundle,
    golden: Golden,
    replayed: Replayed,
): List<Kept> {
    val clip = bundle.manifest.planned.maxOf { it.frames }
    // Between the ends of clips a stream repeats its last answer.
    val fresh = replayed.answers.filter { (it.frame + 1) % clip == 0 }
    val all = fresh.ifEmpty { listOfNotNull(replayed.final) }
    if (golden.logits.size == 1) return all.takeLast(1)
    return all.take(firstFlip(golden, replayed) ?: all.size)
}

private fun rowOf(
    bundle: Bundle,
    golden: Golden,
    answer: Kept,
): Int = if (golden.logits.size == 1) 0 else answer.frame - bundle.manifest.plan.delay

/** Of probabilities the logits are known up to a constant: those with mean 0. */
private fun shown(
    bundle: Bundle,
    rows: List<FloatArray>,
): List<FloatArray> {
    if (bundle.manifest.output == Output.LOGITS) return rows
    return rows.map { row ->
        val mean = row.average().toFloat()
        FloatArray(row.size) { row[it] - mean }
    }
}

/** The first step whose decision is not the reference's: all that comes after it differs. */
private fun firstFlip(
    golden: Golden,
    replayed: Replayed,
): Int? {
    val wanted = golden.actions ?: return null
    return replayed.answers.indices.firstOrNull { replayed.answers[it].action != wanted[it] }
}

/** A decision may fall the other way only where the reference's scores are close. */
private fun wrongDecisions(
    golden: Golden,
    replayed: Replayed,
    limits: Threshold,
): List<String> {
    val step = firstFlip(golden, replayed) ?: return emptyList()
    val scores = golden.scores ?: return emptyList()
    val taken = replayed.answers[step].action
    val best = requireNotNull(golden.actions)[step]
    val margin = (scores[step][best] - scores[step][taken]).toDouble()
    val allowed = 2 * limits.maxError * deviation(scores)
    if (margin <= allowed) return emptyList()
    return listOf("action $taken instead of $best at step $step, whose scores are ${short(margin)} apart")
}
