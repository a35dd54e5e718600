package io.movinetedge.bundle

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable

/** How numbers are stored. */
@Serializable
public enum class DType(
    public val bytes: Int,
) {
    @SerialName("float32")
    FLOAT32(4),

    @SerialName("uint8")
    UINT8(1),

    @SerialName("int8")
    INT8(1),

    @SerialName("int32")
    INT32(4),
    ;

    /** As the manifest spells it. */
    public val label: String get() = name.lowercase()
}

/** What a tensor is to the host. */
@Serializable
public enum class Role {
    @SerialName("frame")
    FRAME,

    @SerialName("state")
    STATE,

    @SerialName("feature")
    FEATURE,

    @SerialName("output")
    OUTPUT,

    @SerialName("valid")
    VALID,
}

/** The order of a picture's axes. */
@Serializable
public enum class Layout {
    NHWC,
    NCHW,
}

/** real = scale * (stored - zeroPoint). */
@Serializable
public data class Quantization(
    val scale: Double,
    @SerialName("zero_point") val zeroPoint: Int,
)

/**
 * One input or output of a graph, bound by [name].
 *
 * A state tensor names its [state]; [slot] numbers the past frames of a `shift` state, 0 the oldest.
 * The output of a state has no slot. A feature that enters names what it is a value of, an output of
 * another graph, and its [age]: how many runs of that graph before the last one it was made.
 */
@Serializable
public data class TensorSpec(
    val name: String,
    val role: Role,
    val shape: List<Int>,
    val dtype: DType = DType.FLOAT32,
    val layout: Layout? = null,
    val quantization: Quantization? = null,
    val state: String? = null,
    val slot: Int? = null,
    val feature: String? = null,
    val age: Int? = null,
) {
    /** How many values it holds. */
    public val size: Int get() = shape.fold(1, Int::times)

    /** Its size in bytes. */
    public val nbytes: Int get() = size * dtype.bytes

    /** The feature that it is a value of. */
    public val featureName: String get() = feature ?: name
}
