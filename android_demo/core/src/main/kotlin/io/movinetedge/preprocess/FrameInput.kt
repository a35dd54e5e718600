package io.movinetedge.preprocess

import io.movinetedge.bundle.DType
import io.movinetedge.bundle.Layout
import io.movinetedge.engine.TensorBuffer

private const val BYTE = (1 / 255.0).toFloat()
private const val TOP = 255.0
private const val SIGN = 0x80

/**
 * A graph's input for frames, [frames, height, width, 3] (or of layout NCHW [frames, 3, height,
 * width]): float32 in 0..1; uint8; or int8, which is bytes less 128.
 */
internal class FrameInput(
    private val buffer: TensorBuffer,
) {
    private val isPlanar = buffer.spec.layout == Layout.NCHW
    val height = buffer.spec.shape[if (isPlanar) 2 else 1]
    val width = buffer.spec.shape[if (isPlanar) 3 else 2]
    private val size = height * width * CHANNELS
    private val isFloat = buffer.spec.dtype == DType.FLOAT32
    private val floats = FloatArray(if (isFloat) size else 0)
    private val bytes = ByteArray(if (isFloat) 0 else size)
    private val planar = FloatArray(if (isPlanar) size else 0)
    private val sign = if (buffer.spec.dtype == DType.INT8) SIGN else 0

    init {
        require(buffer.spec.dtype != DType.INT32) { "frames are not int32" }
    }

    /** Write [values] [height, width, 3] in 0..255 as the frame at [position] of a clip. */
    fun write(
        values: FloatArray,
        position: Int,
    ) {
        val pixels = if (isPlanar) planes(values) else values
        if (isFloat) {
            for (i in 0 until size) floats[i] = pixels[i] * BYTE
            buffer.put(floats, position * size, size)
        } else {
            for (i in 0 until size) {
                val level = Math.rint(pixels[i].toDouble()).coerceIn(0.0, TOP).toInt()
                bytes[i] = (level xor sign).toByte()
            }
            buffer.put(bytes, position * size, size)
        }
    }

    /** The colours one behind the other. */
    private fun planes(values: FloatArray): FloatArray {
        val area = height * width
        for (i in 0 until area) {
            for (c in 0 until CHANNELS) planar[c * area + i] = values[i * CHANNELS + c]
        }
        return planar
    }
}
