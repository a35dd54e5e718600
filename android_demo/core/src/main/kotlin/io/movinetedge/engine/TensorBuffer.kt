package io.movinetedge.engine

import io.movinetedge.bundle.DType
import io.movinetedge.bundle.TensorSpec
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer

// Vectorised kernels may read a little behind a tensor.
private const val ROOM = 64

/**
 * Memory of one tensor that an engine reads and writes in place.
 *
 * [bytes] is direct, in native order and exactly as large as [spec] says.
 */
public class TensorBuffer(
    public val spec: TensorSpec,
) {
    public val bytes: ByteBuffer = zeros(spec.nbytes)

    /** How many values it holds. */
    public val size: Int = spec.size
    private val floats: FloatBuffer = bytes.asFloatBuffer()
    private val ints: IntBuffer = bytes.asIntBuffer()

    /** Set all values to [value], as it is stored. */
    public fun fill(value: Double) {
        for (i in 0 until size) {
            when (spec.dtype) {
                DType.FLOAT32 -> floats.put(i, value.toFloat())
                DType.INT32 -> ints.put(i, value.toInt())
                DType.UINT8, DType.INT8 -> bytes.put(i, value.toInt().toByte())
            }
        }
    }

    /** Take the values of a buffer of the same kind. */
    public fun copyFrom(other: TensorBuffer) {
        bytes.rewind()
        other.bytes.rewind()
        bytes.put(other.bytes)
        bytes.rewind()
        other.bytes.rewind()
    }

    /** Write [count] values from the start of [values] at [offset]; the buffer is float32. */
    public fun put(
        values: FloatArray,
        offset: Int,
        count: Int,
    ) {
        floats.position(offset)
        floats.put(values, 0, count)
    }

    /** The same for 8-bit values. */
    public fun put(
        values: ByteArray,
        offset: Int,
        count: Int,
    ) {
        bytes.position(offset)
        bytes.put(values, 0, count)
        bytes.rewind()
    }

    /** Read as many real numbers as [target] takes, integers as what they stand for, from [offset]. */
    public fun read(
        target: FloatArray,
        offset: Int = 0,
    ) {
        val known = spec.quantization
        if (spec.dtype == DType.FLOAT32) {
            floats.position(offset)
            floats.get(target)
        } else {
            for (i in target.indices) target[i] = stored(offset + i).toFloat()
        }
        if (known != null) {
            val scale = known.scale.toFloat()
            for (i in target.indices) target[i] = (target[i] - known.zeroPoint) * scale
        }
    }

    private fun stored(index: Int): Int =
        when (spec.dtype) {
            DType.UINT8 -> bytes.get(index).toInt() and 0xFF
            DType.INT8 -> bytes.get(index).toInt()
            else -> ints.get(index)
        }
}

private fun zeros(size: Int): ByteBuffer {
    val all = ByteBuffer.allocateDirect(size + ROOM)
    all.limit(size)
    return all.slice().order(ByteOrder.nativeOrder())
}
