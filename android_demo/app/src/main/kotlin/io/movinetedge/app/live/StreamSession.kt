package io.movinetedge.app.live

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.app.Setting
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.Manifest
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.preprocess.Frame
import io.movinetedge.runtime.Pacer
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions
import io.movinetedge.runtime.topOf
import java.io.Closeable
import java.io.File

private const val SHOWN = 5
private const val NANOS_PER_MS = 1e6
private const val MEDIAN = 50
private const val NEARLY_ALL = 95

/** A class and its smoothed probability. */
data class Score(
    val label: String,
    val probability: Float,
)

/** What is shown of a running stream; times in ms, null where nothing was measured yet. */
data class Snapshot(
    val top: List<Score>,
    val p50: Double?,
    val p95: Double?,
    val frameRate: Double?,
    val wantedRate: Double,
    val taken: Long = 0,
    val dropped: Long = 0,
    val missed: Long = 0,
    val decision: String? = null,
)

/** What is known of a stream that was opened: the precisions that the engine could run, and which it does. */
data class Opened(
    val bundle: String,
    val precisions: List<String>,
    val precision: String,
    val snapshot: Snapshot,
)

/**
 * A bundle that runs on frames as they come, and what is measured meanwhile. For one thread.
 *
 * @param scratch where zips are unpacked.
 */
class StreamSession(
    private val engines: List<EngineFactory>,
    private val scratch: File,
) : Closeable {
    private var bundle: Bundle? = null
    private var running: Running? = null

    /** Whether frames can be taken. */
    val isOpen: Boolean get() = running != null

    /**
     * Run the bundle at [path] as [setting] says, from now on and from the beginning.
     *
     * @throws BadInput it cannot be run; nothing runs then.
     */
    fun open(
        path: File,
        setting: Setting,
    ): Opened {
        stop()
        val engine =
            engines.find { it.name == setting.engine }
                ?: throw BadInput("this app has no engine ${setting.engine}", fault = Fault.NO_DELEGATE)
        val options =
            StreamOptions(setting.precision, EngineOptions(setting.threads, setting.delegate))
        val bundle = bundleAt(path)
        val now = Running(bundle, Stream(bundle, engine, options))
        running = now
        return Opened(
            bundle.manifest.name,
            bundle.manifest.precisions(engine.format),
            now.stream.precision,
            now.snapshot(),
        )
    }

    /**
     * Take a frame that was seen at [nanos]; null if it is not its turn or nothing runs.
     *
     * @throws BadInput the engine gave up; nothing runs then.
     */
    fun take(
        frame: Frame,
        nanos: Long,
    ): Snapshot? {
        val now = running ?: return null
        try {
            return if (now.pacer.takes(nanos)) now.step(frame, nanos) else null
        } catch (error: BadInput) {
            stop()
            throw error
        }
    }

    /** Begin a new stream, as when the camera comes back. */
    fun restart() {
        running?.restart()
    }

    override fun close() {
        stop()
        bundle?.close()
        bundle = null
    }

    private fun stop() {
        running?.stream?.close()
        running = null
    }

    private fun bundleAt(path: File): Bundle {
        bundle?.takeIf { it.path == path }?.let { return it }
        bundle?.close()
        bundle = null
        return Bundle(path, scratch).also { bundle = it }
    }
}

/** The precisions of which there is a file of [format] for every graph that runs. */
fun Manifest.precisions(format: Format): List<String> =
    planned
        .map { graph -> graph.files.filter { it.format == format }.map { it.precision } }
        .reduce { all, more -> all.filter { it in more } }
        .distinct()

private class Running(
    private val bundle: Bundle,
    val stream: Stream,
) {
    private val rate = bundle.manifest.preprocessing.frameRate
    val pacer = Pacer(rate)
    private val latency = LatencyWindow()
    private val meter = RateMeter()
    private val probabilities = FloatArray(bundle.manifest.classes)
    private val smoother = Smoother(bundle.manifest.classes)
    private val best = IntArray(minOf(SHOWN, bundle.manifest.classes))
    private var hasAnswered = false
    private var taken = 0L
    private var decision: String? = null

    fun step(
        frame: Frame,
        nanos: Long,
    ): Snapshot {
        val start = System.nanoTime()
        val answer = stream.step(frame)
        val end = System.nanoTime()
        latency.add((end - start) / NANOS_PER_MS)
        meter.add(end)
        taken++
        if (answer != null) {
            answer.probabilities(bundle.manifest.scores, probabilities)
            smoother.add(probabilities, nanos)
            decision = answer.actionName
            hasAnswered = true
        }
        return snapshot()
    }

    fun restart() {
        stream.reset()
        pacer.reset()
        smoother.clear()
        meter.clear()
        taken = 0
        hasAnswered = false
    }

    fun snapshot() =
        Snapshot(
            top = if (hasAnswered) top() else emptyList(),
            p50 = latency.percentile(MEDIAN),
            p95 = latency.percentile(NEARLY_ALL),
            frameRate = meter.rate(),
            wantedRate = rate,
            taken = taken,
            dropped = pacer.dropped,
            missed = pacer.missed,
            decision = decision,
        )

    private fun top(): List<Score> {
        topOf(smoother.values, best)
        return best.map { Score(bundle.labels[it], smoother.values[it]) }
    }
}
