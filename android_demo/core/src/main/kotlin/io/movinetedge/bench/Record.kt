package io.movinetedge.bench

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json

// The records of `benchmarks/record.py`, field by field: one kind of file for every runner. Times are
// milliseconds, memory is 10^6 bytes, one MAC is one multiply-accumulate; null is what is not known.

/** One model file that took part, and how far its engine's delegate took it. */
@Serializable
public data class GraphFile(
    val graph: String,
    val form: String,
    val file: String,
    val sha256: String,
    val bytes: Long,
    val delegate: String? = null,
    val partitions: Int? = null,
    @SerialName("fully_accelerated") val fullyAccelerated: Boolean? = null,
)

/** What ran. */
@Serializable
public data class Subject(
    val label: String,
    val name: String,
    val kind: String = "bundle",
    val bundle: String,
    @SerialName("manifest_sha256") val manifestSha256: String,
    val backend: String,
    val engine: String,
    @SerialName("engine_version") val engineVersion: String,
    val precision: String,
    val files: List<GraphFile>,
    @SerialName("frames_per_step") val framesPerStep: Int,
    @SerialName("macs_per_step") val macsPerStep: Double,
    @SerialName("bytes_per_step") val bytesPerStep: Double,
    @SerialName("state_bytes") val stateBytes: Long,
)

/** How it ran; [mode] is back-to-back or paced. */
@Serializable
public data class Method(
    val threads: Int,
    val warmup: Int,
    val steps: Int,
    val mode: String,
    @SerialName("frame_rate") val frameRate: Double? = null,
    val interleaved: Boolean = false,
    val rounds: Int? = null,
)

/** Of one quantity over the steps, in ms; percentiles interpolate linearly. */
@Serializable
public data class Distribution(
    val min: Double,
    val p10: Double,
    val p50: Double,
    val p90: Double,
    val p99: Double,
    val mean: Double,
)

/** The process: [loadMs] is from the path to a model ready to step. */
@Serializable
public data class Alone(
    @SerialName("load_ms") val loadMs: Double,
    @SerialName("first_step_ms") val firstStepMs: Double,
    @SerialName("base_memory_mb") val baseMemoryMb: Double?,
    @SerialName("peak_memory_mb") val peakMemoryMb: Double?,
)

/**
 * What became of a machine that went on stepping: [throttled] is the median step of the last tenth of
 * the steps over that of the first; [temperatures] are pairs of seconds and degrees Celsius.
 */
@Serializable
public data class Sustained(
    val seconds: Double,
    val throttled: Double,
    val temperatures: List<List<Double>> = emptyList(),
)

/** One contestant's result. [overheadMs] is the median of what a step took beside the engine. */
@Serializable
public data class Measurement(
    val subject: Subject,
    val method: Method,
    @SerialName("step_ms") val stepMs: Distribution,
    @SerialName("engine_ms") val engineMs: Distribution,
    @SerialName("overhead_ms") val overheadMs: Double,
    @SerialName("cpu_ms") val cpuMs: Double,
    @SerialName("late_steps") val lateSteps: Int? = null,
    val sustained: Sustained? = null,
    val alone: Alone,
)

/** Where it ran. */
@Serializable
public data class Machine(
    val device: String = "host",
    val model: String? = null,
    @SerialName("api_level") val apiLevel: Int? = null,
    val cpu: String,
    val architecture: String,
    val cores: Int,
    val governor: String?,
    @SerialName("temperature_c") val temperatureC: Double?,
    val os: String,
)

/** Time per frame of [label] over [baseline]'s; a run of one contestant has none. */
@Serializable
public data class Comparison(
    val label: String,
    val baseline: String,
    @SerialName("ratio_of_medians") val ratioOfMedians: Double,
)

/** One run of the benchmark; [date] is UTC. */
@Serializable
public data class Report(
    @SerialName("schema_version") val schemaVersion: Int = 1,
    val date: String,
    val machine: Machine,
    val tools: Map<String, String>,
    val seed: Int = 0,
    val measurements: List<Measurement>,
    val comparisons: List<Comparison> = emptyList(),
    val notes: List<String> = emptyList(),
)

private val FORMAT =
    Json {
        encodeDefaults = true
        prettyPrint = true
    }

/** The record as JSON, as `movinet-edge report` reads it. */
public fun Report.toJson(): String = FORMAT.encodeToString(Report.serializer(), this) + "\n"

/**
 * The record that [json] is.
 *
 * @throws IllegalArgumentException it is none.
 */
public fun reportOf(json: String): Report = FORMAT.decodeFromString(Report.serializer(), json)
