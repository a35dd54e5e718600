package io.movinetedge

import io.movinetedge.bundle.DType
import io.movinetedge.bundle.Fit
import io.movinetedge.bundle.Layout
import io.movinetedge.bundle.Preprocessing
import io.movinetedge.bundle.Rescale
import io.movinetedge.bundle.Role
import io.movinetedge.bundle.TensorSpec
import io.movinetedge.bundle.readNpz
import io.movinetedge.engine.TensorBuffer
import io.movinetedge.preprocess.ColourMatrix
import io.movinetedge.preprocess.Fitter
import io.movinetedge.preprocess.FrameInput
import io.movinetedge.preprocess.Plane
import io.movinetedge.preprocess.RgbFrame
import io.movinetedge.preprocess.YuvFrame
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.nio.ByteBuffer
import kotlin.math.abs

private const val LEVEL = 1 / 255.0f

/** A model sees of camera frames what the Python runtime would show it, within one level of 255. */
class PreprocessTest {
    @ParameterizedTest
    @MethodSource("cases")
    fun `as in Python`(numbered: IndexedValue<Case>) {
        val (number, case) = numbered
        val arrays = readNpz(FOLDER.resolve("$number.npz"))

        fun plane(
            name: String,
            pixel: Int,
            width: Int,
        ): Plane {
            val bytes = arrays.getValue(name).bytes()
            val direct = ByteBuffer.allocateDirect(bytes.size).put(bytes)
            return Plane(direct, width * pixel + case.padding, pixel)
        }
        val half = (case.width + 1) / 2
        val frame =
            YuvFrame(
                case.height,
                case.width,
                plane("y", 1, case.width),
                plane("u", case.pixelStride, half),
                plane("v", case.pixelStride, half),
                case.rotation,
                case.full,
                ColourMatrix.valueOf(case.matrix.uppercase()),
            )
        val (height, width) = case.smaller ?: case.shape
        val spec = TensorSpec("frame", Role.FRAME, listOf(1, height, width, 3), case.type)
        val buffer = TensorBuffer(spec)
        val fitter = Fitter(case.contract)
        fitter.show(frame)
        fitter.fill(FrameInput(buffer), 0)
        val seen = FloatArray(spec.size).also { buffer.read(it) }
        val python = arrays.getValue("seen")
        val wanted =
            if (case.type == DType.FLOAT32) {
                python.floats()
            } else {
                python
                    .bytes()
                    .map {
                        if (case.type ==
                            DType.INT8
                        ) {
                            it.toFloat()
                        } else {
                            (it.toInt() and 0xFF).toFloat()
                        }
                    }.toFloatArray()
            }
        val unit = if (case.type == DType.FLOAT32) LEVEL else 1f
        val worst = wanted.indices.maxOf { abs(wanted[it] - seen[it]) } / unit
        assertTrue(worst <= 1f, "$worst levels")
    }

    @Test
    fun `planes of another layout are the same picture`() {
        val bytes = ByteArray(4 * 6 * 3) { (it * 7).toByte() }
        val contract = Preprocessing(4, 6, 5.0)

        fun filled(spec: TensorSpec): FloatArray {
            val buffer = TensorBuffer(spec)
            val fitter = Fitter(contract)
            fitter.show(RgbFrame(bytes, 4, 6))
            fitter.fill(FrameInput(buffer), 0)
            return FloatArray(spec.size).also { buffer.read(it) }
        }
        val pixels = filled(TensorSpec("f", Role.FRAME, listOf(1, 4, 6, 3), layout = Layout.NHWC))
        val planes = filled(TensorSpec("f", Role.FRAME, listOf(1, 3, 4, 6), layout = Layout.NCHW))
        for (i in pixels.indices) assertEquals(pixels[i], planes[i % 3 * 24 + i / 3])
        assertArrayEquals(FloatArray(pixels.size) { (bytes[it].toInt() and 0xFF) * LEVEL }, pixels)
    }

    @Test
    fun `frames that are none are refused`() {
        val plane = Plane(ByteBuffer.allocate(16), 4, 1)
        assertThrows(IllegalArgumentException::class.java) { YuvFrame(5, 4, plane, plane, plane) }
        assertThrows(IllegalArgumentException::class.java) { YuvFrame(4, 4, plane, plane, plane, 45) }
        assertThrows(IllegalArgumentException::class.java) { RgbFrame(ByteArray(8), 2, 2) }
    }

    /** As `tests/android_frames.py` describes it. */
    @Serializable
    data class Case(
        val height: Int,
        val width: Int,
        val rotation: Int,
        val full: Boolean,
        val matrix: String,
        @SerialName("pixel_stride") val pixelStride: Int,
        val swapped: Boolean,
        val padding: Int,
        val shape: List<Int>,
        val fit: Fit,
        @SerialName("crop_fraction") val cropFraction: Double,
        val antialias: Boolean,
        @SerialName("dtype") val type: DType,
        val rescale: Rescale?,
        val smaller: List<Int>?,
        val beyond: Boolean,
    ) {
        val contract: Preprocessing
            get() {
                val (height, width) = shape
                return Preprocessing(height, width, 5.0, fit, cropFraction, antialias, rescale = rescale)
            }
    }

    companion object {
        private val FOLDER = Fixtures.folder.resolve("frames")

        @JvmStatic
        fun cases(): List<IndexedValue<Case>> =
            Json.decodeFromString<List<Case>>(FOLDER.resolve("cases.json").readText()).withIndex().toList()
    }
}
