package io.movinetedge.preprocess

import io.movinetedge.bundle.Preprocessing
import io.movinetedge.bundle.Rescale

/**
 * One frame for graphs of several scales, fitted to the contract once, and only if a graph asks for
 * it. After the first frame of a size it allocates nothing.
 */
internal class Fitter(
    private val contract: Preprocessing,
) {
    private val whole = FloatArray(contract.height * contract.width * CHANNELS)
    private val smaller = ArrayList<Smaller>()
    private var resizer: Resizer? = null
    private var frame: Frame? = null

    /** The next frame; a null is the last one again. */
    fun show(next: Frame?) {
        frame = next
        for (i in smaller.indices) smaller[i].isNew = false
    }

    /** A black one. */
    fun showNothing() {
        show(null)
        whole.fill(0f)
    }

    /** Write what is shown to [input] as the frame at [position] of a clip. */
    fun fill(
        input: FrameInput,
        position: Int,
    ) {
        fit()
        val rescale = contract.rescale
        if (rescale == null || (input.height == contract.height && input.width == contract.width)) {
            input.write(whole, position)
        } else {
            input.write(at(rescale, input.height, input.width).values(whole), position)
        }
    }

    private fun fit() {
        val shown = frame ?: return
        val known = resizer
        val suited =
            if (known != null && known.suits(shown)) {
                known
            } else {
                Resizer(contract, shown.height, shown.width, shown.rotation).also { resizer = it }
            }
        suited.fit(shown, whole)
        frame = null
    }

    private fun at(
        rule: Rescale,
        height: Int,
        width: Int,
    ): Smaller {
        for (i in smaller.indices) if (smaller[i].isOf(height, width)) return smaller[i]
        return Smaller(Rescaler(rule, contract.height, contract.width, height, width))
            .also { smaller += it }
    }
}

/** The shown frame at another scale. */
private class Smaller(
    private val rescaler: Rescaler,
) {
    private val values = FloatArray(rescaler.toHeight * rescaler.toWidth * CHANNELS)
    var isNew = false

    fun isOf(
        height: Int,
        width: Int,
    ) = rescaler.toHeight == height && rescaler.toWidth == width

    fun values(whole: FloatArray): FloatArray {
        if (!isNew) rescaler.apply(whole, values)
        isNew = true
        return values
    }
}
