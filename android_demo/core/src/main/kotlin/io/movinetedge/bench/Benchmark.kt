package io.movinetedge.bench

import io.movinetedge.BadInput
import io.movinetedge.CheckFailed
import io.movinetedge.bundle.Bundle
import io.movinetedge.check.Golden
import io.movinetedge.check.readGolden
import io.movinetedge.check.requireGolden
import io.movinetedge.engine.EngineFactory
import io.movinetedge.runtime.Stream
import io.movinetedge.runtime.StreamOptions
import java.io.File
import java.time.Instant
import java.time.temporal.ChronoUnit

private const val WARMUP = 10
private const val NANOS_PER_MS = 1e6

/**
 * Times a bundle on one engine: load, check on the golden stream, warm up, step.
 *
 * @param tools versions of what can influence a time, for the record.
 */
public class Benchmark(
    private val host: Host,
    private val tools: Map<String, String>,
) {
    /**
     * Measure the bundle at [path]; [progress] is told what is being done.
     *
     * @throws BadInput an unusable bundle, engine, delegate or schedule.
     * @throws CheckFailed the engine computes wrong numbers.
     * @throws InterruptedException its thread was interrupted.
     */
    public fun run(
        path: File,
        engine: EngineFactory,
        options: StreamOptions,
        schedule: Schedule,
        progress: (String) -> Unit = {},
    ): Report {
        schedule.check()
        progress("loading")
        Bundle(path).use { bundle ->
            bundle.checkAll() // so that hashes are not part of loading
            val golden = readGolden(bundle)
            val baseMemory = host.memoryMb()
            val start = System.nanoTime()
            Stream(bundle, engine, options).use { stream ->
                val loadMs = (System.nanoTime() - start) / NANOS_PER_MS
                val timed = Timed(stream, golden, bundle.framesPerStep, host)
                val firstMs = timed.first()
                progress("checking")
                requireGolden(bundle, stream)
                progress("timing")
                val warmup = timed.warmUp(WARMUP)
                val ran = timed.run(schedule, bundle.manifest.preprocessing.frameRate)
                val alone = Alone(loadMs, firstMs, baseMemory, host.peakMemoryMb())
                return report(measurement(bundle, stream, options, warmup, ran, alone))
            }
        }
    }

    private fun report(measurement: Measurement) =
        Report(
            date = Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(),
            machine = host.describe(),
            tools = tools,
            measurements = listOf(measurement),
        )
}

/** How many frames belong to a step: those of a clip, where the model takes whole clips. */
internal val Bundle.framesPerStep: Int get() = manifest.planned.maxOf { it.frames }

private fun measurement(
    bundle: Bundle,
    stream: Stream,
    options: StreamOptions,
    warmup: Int,
    ran: Ran,
    alone: Alone,
) = Measurement(
    subject = subject(bundle, stream, options),
    method =
        Method(
            threads = options.engine.threads,
            warmup = warmup,
            steps = ran.stepMs.size,
            mode = if (ran.frameRate == null) "back-to-back" else "paced",
            frameRate = ran.frameRate,
        ),
    stepMs = distribution(ran.stepMs),
    engineMs = distribution(ran.engineMs),
    overheadMs = median(DoubleArray(ran.stepMs.size) { ran.stepMs[it] - ran.engineMs[it] }),
    cpuMs = median(ran.cpuMs),
    lateSteps = ran.late,
    sustained = ran.sustained,
    alone = alone,
)

private fun subject(
    bundle: Bundle,
    stream: Stream,
    options: StreamOptions,
): Subject {
    val manifest = bundle.manifest
    val delegate = options.engine.delegate ?: stream.engine.delegates.first()
    val name =
        listOfNotNull(
            "app ${stream.engine.name}",
            delegate.takeIf { it == "nnapi" || it == "gpu" },
            stream.precision.takeIf { it != "fp32" },
        ).joinToString(" ")
    return Subject(
        label = name,
        name = name,
        bundle = manifest.name,
        manifestSha256 = bundle.manifestSha256,
        backend = stream.engine.name,
        engine = stream.engine.library,
        engineVersion = stream.version,
        precision = stream.precision,
        files =
            stream.files.map { (graph, file) ->
                GraphFile(
                    graph = graph,
                    form = manifest.graph(graph).form.label,
                    file = file.path,
                    sha256 = file.sha256,
                    bytes = file.bytes,
                    delegate = delegate.takeIf { it != "none" },
                    // cut into how many parts it does not tell
                    partitions = 1.takeIf { stream.wholeGraphs[graph] == true },
                    fullyAccelerated = stream.wholeGraphs[graph],
                )
            },
        framesPerStep = bundle.framesPerStep,
        macsPerStep = macsPerStep(manifest, bundle.framesPerStep),
        bytesPerStep = bytesPerStep(manifest, stream.files, bundle.framesPerStep),
        stateBytes = stream.files.entries.sumOf { (graph, file) -> manifest.graph(graph).stateBytes(file) },
    )
}
