package io.movinetedge.check

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.NpyArray
import io.movinetedge.bundle.readNpz
import io.movinetedge.preprocess.RgbFrame

/**
 * A bundle's golden stream: RGB frames of the model's size, and what the PyTorch model answers.
 *
 * [logits] are [steps, classes], one row a frame, or one row for a whole clip. [actions] and [scores]
 * are what a model decided and why, where it decides.
 */
public class Golden internal constructor(
    private val frames: ByteArray,
    public val steps: Int,
    private val height: Int,
    private val width: Int,
    public val logits: List<FloatArray>,
    public val actions: IntArray?,
    public val scores: List<FloatArray>?,
) {
    /** A frame that [show] moves through the stream. */
    public fun frame(): RgbFrame = RgbFrame(frames, height, width)

    /** Let [frame] be number [step]; behind the end the stream begins anew. */
    public fun show(
        frame: RgbFrame,
        step: Int,
    ) {
        frame.offset = step % steps * frame.size
    }
}

/**
 * The golden stream of a bundle.
 *
 * @throws BadInput it is damaged.
 */
public fun readGolden(bundle: Bundle): Golden {
    val arrays = readNpz(bundle.file(bundle.manifest.golden))
    try {
        val frames = arrays.getValue("frames")
        return Golden(
            frames.bytes(),
            frames.shape[0],
            frames.shape[1],
            frames.shape[2],
            arrays.getValue("logits").rows(),
            arrays["actions"]?.ints(),
            arrays["scores"]?.rows(),
        )
    } catch (error: IllegalArgumentException) {
        throw damaged(bundle, error)
    } catch (error: NoSuchElementException) {
        throw damaged(bundle, error)
    }
}

/** The rows of an array of two axes. */
public fun NpyArray.rows(): List<FloatArray> {
    val all = floats()
    val length = shape.last()
    return List(size / length) { all.copyOfRange(it * length, (it + 1) * length) }
}

private fun damaged(
    bundle: Bundle,
    error: Exception,
) = BadInput(
    "the golden stream of ${bundle.path} is damaged; export the bundle again",
    error,
    Fault.DAMAGED,
)
