package io.movinetedge.runtime

import io.movinetedge.BadInput
import io.movinetedge.bundle.Manifest
import io.movinetedge.bundle.Role
import io.movinetedge.bundle.TensorSpec
import io.movinetedge.engine.TensorBuffer
import kotlin.math.max

/** The newest [length] values of what one graph hands to others; [runs] counts its writer's. */
internal class FeatureRing(
    val length: Int,
) {
    private var buffers: Array<TensorBuffer> = emptyArray()
    var runs = 0

    /** Make the buffers, unless another graph has done so. */
    fun allocate(spec: TensorSpec) {
        if (buffers.isEmpty()) buffers = Array(length) { TensorBuffer(spec) }
        if (spec.shape != buffers[0].spec.shape) {
            throw BadInput("the manifest gives feature '${spec.featureName}' more than one shape")
        }
    }

    /** Where the writer puts its next value. */
    val next: TensorBuffer get() = buffers[runs % length]

    /** The value of [age] runs before the last. */
    fun aged(age: Int): TensorBuffer = buffers[Math.floorMod(runs - 1 - age, length)]

    /** Its place in a round of its buffers. */
    val phase: Int get() = runs % length

    fun reset() {
        runs = 0
        for (buffer in buffers) buffer.fill(0.0)
    }
}

/**
 * Rings for all features of a bundle by name, long enough for their oldest reader.
 *
 * Their lengths are multiples of the readers' periods, so that few assignments repeat.
 */
internal fun featureRings(manifest: Manifest): Map<String, FeatureRing> {
    val oldest = HashMap<String, Int>()
    for (file in manifest.graphs.flatMap { it.files }) {
        for (spec in file.outputs) if (spec.role == Role.FEATURE) oldest.putIfAbsent(spec.name, 0)
    }
    val every = HashMap<String, Int>()
    for (step in manifest.plan.steps) {
        for (spec in manifest.graph(step.graph).files.flatMap { it.inputs }) {
            if (spec.role != Role.FEATURE) continue
            oldest[spec.featureName] = max(oldest[spec.featureName] ?: 0, spec.age ?: 0)
            every[spec.featureName] = step.every
        }
    }
    return oldest.mapValues { (name, age) ->
        val turn = every[name] ?: 1
        FeatureRing(if (age == 0) 1 else (age + turn) / turn * turn)
    }
}
