package io.movinetedge.bench

import io.movinetedge.check.Golden
import io.movinetedge.runtime.Stream
import java.util.concurrent.TimeUnit

private const val NANOS_PER_MS = 1e6
private const val NANOS_PER_S = 1e9
private const val S_PER_MINUTE = 60
private const val THERMAL_SECONDS = 10.0 // between two readings of the temperature

/** What a schedule gave: samples in ms, one per step. */
internal class Ran(
    val stepMs: DoubleArray,
    val engineMs: DoubleArray,
    val cpuMs: DoubleArray,
    val frameRate: Double?,
    val late: Int?,
    val sustained: Sustained?,
)

/** The clock: steps of a stream on its golden frames. */
internal class Timed(
    private val stream: Stream,
    private val golden: Golden,
    private val framesPerStep: Int,
    private val host: Host,
) {
    private val frame = golden.frame()
    private var shown = 0

    /** The first step of all; it took so many ms. */
    fun first(): Double {
        val start = System.nanoTime()
        step()
        return (System.nanoTime() - start) / NANOS_PER_MS
    }

    /** Step until [calm] steps passed without a new assignment of buffers; how many it took. */
    fun warmUp(calm: Int): Int {
        stream.reset()
        var steps = 0
        var quiet = 0
        while (quiet < calm) {
            val binds = stream.clock.binds
            step()
            quiet = if (stream.clock.binds == binds) quiet + 1 else 0
            steps++
        }
        return steps
    }

    /** Time steps by [schedule], paced ones at [frameRate] frames per second. */
    fun run(
        schedule: Schedule,
        frameRate: Double,
    ): Ran {
        val samples = List(3) { Samples(schedule.room) }
        val (step, engine, cpu) = samples
        val paced = schedule.mode == Mode.PACED
        val interval = if (paced) (framesPerStep / frameRate * NANOS_PER_S).toLong() else 0L
        val temperatures = ArrayList<List<Double>>()
        var late = 0
        val start = System.nanoTime()
        var due = start
        while (goesOn(schedule, step, start)) {
            if (schedule.minutes != null) watch(start, temperatures)
            if (paced) sleepUntil(due)
            val took = time(step, engine, cpu)
            if (!paced) continue
            if (took > interval) late++
            // A camera does not wait: after a late step the next frame is the newest one.
            due = if (took > interval) System.nanoTime() else due + interval
        }
        val seconds = (System.nanoTime() - start) / NANOS_PER_S
        return Ran(
            step.toArray(),
            engine.toArray(),
            cpu.toArray(),
            frameRate.takeIf { paced },
            late.takeIf { paced },
            schedule.minutes?.let { sustained(step.toArray(), seconds, temperatures) },
        )
    }

    private fun goesOn(
        schedule: Schedule,
        samples: Samples,
        start: Long,
    ): Boolean {
        // Whoever waits can give up: a step back to back never looks at that by itself.
        if (Thread.interrupted()) throw InterruptedException("the benchmark was stopped")
        if (samples.isFull) return false
        val minutes = schedule.minutes ?: return true
        return samples.size == 0 || System.nanoTime() - start < minutes * S_PER_MINUTE * NANOS_PER_S
    }

    /** One step; it took so many ns. */
    private fun time(
        step: Samples,
        engine: Samples,
        cpu: Samples,
    ): Long {
        stream.clock.nanos = 0
        val cpuStart = host.cpuNanos()
        val start = System.nanoTime()
        step()
        val took = System.nanoTime() - start
        cpu.add((host.cpuNanos() - cpuStart) / NANOS_PER_MS)
        step.add(took / NANOS_PER_MS)
        engine.add(stream.clock.nanos / NANOS_PER_MS)
        return took
    }

    private fun step() {
        repeat(framesPerStep) {
            golden.show(frame, shown++)
            stream.step(frame)
        }
    }

    private fun watch(
        start: Long,
        temperatures: MutableList<List<Double>>,
    ) {
        val elapsed = (System.nanoTime() - start) / NANOS_PER_S
        if (elapsed < temperatures.size * THERMAL_SECONDS) return
        host.temperature()?.let { temperatures += listOf(elapsed, it) }
    }

    private fun sleepUntil(due: Long) {
        val rest = due - System.nanoTime()
        if (rest > 0) TimeUnit.NANOSECONDS.sleep(rest)
    }
}
