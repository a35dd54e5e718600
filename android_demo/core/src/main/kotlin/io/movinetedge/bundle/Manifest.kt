package io.movinetedge.bundle

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonObject

/** The newest schema that is read here: 2 has choices and frames of several scales. */
public const val SCHEMA_VERSION: Int = 2

/** The kind of a model file. */
@Serializable
public enum class Format {
    @SerialName("onnx")
    ONNX,

    @SerialName("tflite")
    TFLITE,

    @SerialName("torch")
    TORCH,
    ;

    /** As the manifest spells it. */
    public val label: String get() = name.lowercase()
}

/** What a graph takes and gives. */
@Serializable
public enum class Form {
    @SerialName("fresh")
    FRESH,

    @SerialName("carry")
    CARRY,

    @SerialName("clip")
    CLIP,
    ;

    /** As the manifest spells it. */
    public val label: String get() = name.lowercase()
}

/** How the next value of a state comes about. */
@Serializable
public enum class Rule {
    /** The last `past` frames; the oldest leaves when the graph's new frame comes in. */
    @SerialName("shift")
    SHIFT,

    /** The same, and only the oldest goes into the graph, as slot 0. */
    @SerialName("delay")
    DELAY,

    /** The graph's output is the next value. */
    @SerialName("replace")
    REPLACE,
}

/** How a host carries a state from step to step. All begin with [initial] everywhere. */
@Serializable
public data class StateRule(
    val name: String,
    val rule: Rule,
    val past: Int = 0,
    val initial: Double = 0.0,
)

/** What a file with integer activations was made with. */
@Serializable
public data class Calibration(
    val videos: Int,
    val frames: Int,
    val equalised: List<String> = emptyList(),
    @SerialName("keep_float") val keepFloat: List<String> = emptyList(),
)

/** One artefact of a graph. [runtime] is the lowest engine version it was run with. */
@Serializable
public data class ModelFile(
    val path: String,
    val format: Format,
    val precision: String,
    val profile: String = "cpu",
    val sha256: String,
    val bytes: Long,
    val runtime: String,
    val calibration: Calibration? = null,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
)

/** One model of the bundle; [frames] frames enter each run (more than 1: a whole clip). */
@Serializable
public data class Graph(
    val name: String,
    val form: Form,
    val frames: Int = 1,
    val macs: Long,
    @SerialName("checkpoint_sha256") val checkpointSha256: String? = null,
    val states: List<StateRule>,
    val files: List<ModelFile>,
) {
    /** What a stream keeps of its states between two steps of [file], in bytes. */
    public fun stateBytes(file: ModelFile): Long {
        // Of a delay only the oldest value enters.
        val held = states.associate { it.name to if (it.rule == Rule.DELAY) it.past else 1 }
        return file.inputs.sumOf { (held[it.state] ?: 0).toLong() * it.nbytes }
    }
}

/** How a frame is fitted into the model's size. */
@Serializable
public enum class Fit {
    /** The largest centred rectangle of the target's aspect ratio, times the crop fraction. */
    @SerialName("crop")
    CROP,

    /** The whole frame. */
    @SerialName("stretch")
    STRETCH,
}

/** How a fitted frame is made smaller once more, for graphs of other scales. */
@Serializable
public enum class Rescale {
    /** Pixel floor(i * source / target). */
    @SerialName("nearest")
    NEAREST,

    /** Half-pixel centres, no antialias. */
    @SerialName("bilinear")
    BILINEAR,

    /** The mean of all pixels that are at least partly covered. */
    @SerialName("area")
    AREA,
}

/**
 * From a decoded frame to the model's input: RGB at [frameRate] frames per second, fitted to [height]
 * x [width] bilinearly with half-pixel centres ([antialias]: the filter widens when shrinking), bytes
 * scaled by 1/255. A frame that has the target's size is taken as it is.
 */
@Serializable
public data class Preprocessing(
    val height: Int,
    val width: Int,
    @SerialName("frame_rate") val frameRate: Double,
    val fit: Fit = Fit.CROP,
    @SerialName("crop_fraction") val cropFraction: Double = 1.0,
    val antialias: Boolean = true,
    val colour: String = "RGB",
    @SerialName("value_range") val valueRange: String = "0..1",
    val rescale: Rescale? = null,
)

/** Parity limits of one precision, relative to the deviation of the reference logits. */
@Serializable
public data class Threshold(
    @SerialName("max_error") val maxError: Double,
    @SerialName("min_cosine") val minCosine: Double,
    @SerialName("min_top1_agreement") val minTop1Agreement: Double,
)

/** Where a bundle comes from: its model's architecture and weights, the tools that wrote it. */
@Serializable
public data class Provenance(
    val architecture: JsonObject,
    @SerialName("checkpoint_sha256") val checkpointSha256: String,
    val tools: Map<String, String>,
)

/** A file beside the models. */
@Serializable
public data class Attachment(
    val path: String,
    val sha256: String,
)

/** What the answer's numbers are. */
@Serializable
public enum class Output {
    @SerialName("logits")
    LOGITS,

    @SerialName("probabilities")
    PROBABILITIES,
}

/** How logits become probabilities. */
@Serializable
public enum class Scores {
    @SerialName("softmax")
    SOFTMAX,

    /** Each class is there or not, whatever the others are. */
    @SerialName("sigmoid")
    SIGMOID,
}

/** Everything a host must know; `manifest.json`. */
@Serializable
public data class Manifest(
    @SerialName("schema_version") val schemaVersion: Int = 1,
    val name: String,
    val task: String = "classification",
    val classes: Int,
    val labels: Attachment? = null,
    val golden: Attachment,
    val preprocessing: Preprocessing,
    val output: Output = Output.LOGITS,
    val scores: Scores = Scores.SOFTMAX,
    val graphs: List<Graph>,
    val plan: Plan,
    val reference: String? = null,
    val thresholds: Map<String, Threshold>,
    val provenance: Provenance,
) {
    /** The graph of that name; the manifest was checked, so a plan's are there. */
    public fun graph(name: String): Graph = graphs.first { it.name == name }

    /** The graphs that the plan runs, in its order. */
    public val planned: List<Graph> get() =
        plan.steps
            .map { it.graph }
            .distinct()
            .map(::graph)
}
