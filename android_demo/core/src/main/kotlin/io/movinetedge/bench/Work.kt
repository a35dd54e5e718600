package io.movinetedge.bench

import io.movinetedge.bundle.Graph
import io.movinetedge.bundle.Manifest
import io.movinetedge.bundle.ModelFile

/**
 * Multiply-accumulates of a step, averaged over the plan where graphs run now and then. Of graphs to
 * choose from it is the largest that counts.
 */
internal fun macsPerStep(
    manifest: Manifest,
    framesPerStep: Int,
): Double = perStep(manifest, framesPerStep) { it.macs }

/** Bytes that a step reads and writes of weights and tensors, averaged in the same way. */
internal fun bytesPerStep(
    manifest: Manifest,
    files: Map<String, ModelFile>,
    framesPerStep: Int,
): Double =
    perStep(manifest, framesPerStep) { graph ->
        val file = files.getValue(graph.name)
        file.bytes + (file.inputs + file.outputs).sumOf { it.nbytes.toLong() }
    }

private fun perStep(
    manifest: Manifest,
    framesPerStep: Int,
    cost: (Graph) -> Long,
): Double {
    var total = 0.0
    var chosen = 0.0
    for (step in manifest.plan.steps) {
        val graph = manifest.graph(step.graph)
        val share = cost(graph).toDouble() * framesPerStep / (step.every * graph.frames)
        if (step.`when` == null) total += share else chosen = maxOf(chosen, share)
    }
    return total + chosen
}
