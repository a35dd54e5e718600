package io.movinetedge.engine

import io.movinetedge.BadInput

/** What a model says of one of its tensors; [dtype] as the manifest spells it. */
internal data class Tensor(
    val shape: List<Int>,
    val dtype: String,
)

/**
 * Compare the model's own [tensors] with the [buffers] that the manifest describes.
 *
 * @throws BadInput they differ.
 */
internal fun checkBuffers(
    kind: String,
    tensors: Map<String, Tensor>,
    buffers: Buffers,
) {
    checkNames(kind, tensors.keys, buffers)
    for ((name, tensor) in tensors) {
        val spec = buffers.getValue(name).spec
        if (tensor.shape != spec.shape) {
            throw BadInput(
                "$kind '$name' has shape ${tensor.shape} in the model and ${spec.shape} in the manifest",
            )
        }
        if (tensor.dtype != spec.dtype.label) {
            throw BadInput(
                "$kind '$name' is ${tensor.dtype} in the model and ${spec.dtype.label} in the manifest",
            )
        }
    }
}

/**
 * Compare the [names] of the model's tensors with those of the [buffers].
 *
 * @throws BadInput they differ.
 */
internal fun checkNames(
    kind: String,
    names: Set<String>,
    buffers: Buffers,
) {
    names.firstOrNull { it !in buffers }?.let {
        throw BadInput("the model has an $kind '$it' that the manifest does not name")
    }
    val left = buffers.keys - names
    if (left.isNotEmpty()) {
        throw BadInput("the manifest names ${kind}s the model lacks: ${left.sorted().joinToString()}")
    }
}
