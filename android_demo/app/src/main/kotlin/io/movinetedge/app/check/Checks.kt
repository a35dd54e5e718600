package io.movinetedge.app.check

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.app.DELEGATES
import io.movinetedge.app.live.precisions
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Manifest
import io.movinetedge.check.Golden
import io.movinetedge.check.GoldenResult
import io.movinetedge.check.checkGolden
import io.movinetedge.check.readGolden
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions

enum class Verdict { WAITING, RUNNING, PASSED, FAILED, ABSENT, REFUSED }

/**
 * The check of one engine, delegate and precision. [error] is that of the logits over the deviation of
 * the reference's, which may be [limit]; [note] is what stands in the way, or is wrong.
 */
data class Check(
    val engine: String,
    val delegate: String,
    val precision: String,
    val verdict: Verdict = Verdict.WAITING,
    val error: Double? = null,
    val limit: Double? = null,
    val note: String? = null,
)

/** All that there is to check of a bundle on these engines, absent delegates included. */
fun checksOf(
    manifest: Manifest,
    engines: List<EngineFactory>,
): List<Check> =
    engines.flatMap { engine ->
        manifest.precisions(engine.format).flatMap { precision ->
            DELEGATES.getValue(engine.name).map { Check(engine.name, it, precision) }
        }
    }

/**
 * Replay the golden stream in every way that there is, one after another; [tell] is told of all checks
 * whenever one has changed.
 *
 * @throws BadInput the bundle or its golden stream is damaged.
 */
fun runChecks(
    bundle: Bundle,
    engines: List<EngineFactory>,
    threads: Int,
    tell: (List<Check>) -> Unit,
) {
    val golden = readGolden(bundle)
    val all = checksOf(bundle.manifest, engines).toMutableList()
    for (place in all.indices) {
        if (Thread.interrupted()) return
        val check = all[place]
        all[place] = check.copy(verdict = Verdict.RUNNING)
        tell(all.toList())
        val engine = engines.first { it.name == check.engine }
        all[place] = judge(bundle, engine, golden, threads, check)
        tell(all.toList())
    }
}

private fun judge(
    bundle: Bundle,
    engine: EngineFactory,
    golden: Golden,
    threads: Int,
    check: Check,
): Check {
    val options = StreamOptions(check.precision, EngineOptions(threads, check.delegate))
    return try {
        Stream(bundle, engine, options).use { check.judged(checkGolden(bundle, it, golden)) }
    } catch (error: BadInput) {
        // A damaged bundle is not one engine's fault.
        if (error.fault !in ENGINES_FAULTS) throw error
        val isAbsent = error.fault == Fault.NO_DELEGATE
        check.copy(verdict = if (isAbsent) Verdict.ABSENT else Verdict.REFUSED, note = error.message)
    } catch (error: LinkageError) {
        check.copy(verdict = Verdict.ABSENT, note = "${engine.library} is not in this app ($error)")
    }
}

private val ENGINES_FAULTS = setOf(Fault.NO_DELEGATE, Fault.REFUSED, Fault.REQUEST, Fault.NO_FILE)

private fun Check.judged(result: GoldenResult) =
    copy(
        verdict = if (result.holds) Verdict.PASSED else Verdict.FAILED,
        error = result.figures?.maxError,
        limit = result.threshold.maxError,
        note = result.problems.joinToString("; ").ifEmpty { null },
    )
