package io.movinetedge.preprocess

import io.movinetedge.bundle.Fit
import io.movinetedge.bundle.Preprocessing
import kotlin.math.min

/** A part of an upright frame, in pixels. */
internal data class Region(
    val top: Double,
    val left: Double,
    val height: Double,
    val width: Double,
)

/** The part of a frame [height] x [width] that the model sees. */
internal fun region(
    contract: Preprocessing,
    height: Int,
    width: Int,
): Region {
    val taken = height == contract.height && width == contract.width
    if (taken || contract.fit == Fit.STRETCH) {
        return Region(0.0, 0.0, height.toDouble(), width.toDouble())
    }
    val aspect = contract.width.toDouble() / contract.height
    val seenHeight = min(height.toDouble(), width / aspect) * contract.cropFraction
    val seenWidth = seenHeight * aspect
    return Region((height - seenHeight) / 2, (width - seenWidth) / 2, seenHeight, seenWidth)
}
