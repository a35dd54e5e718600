package io.movinetedge.app.video

import android.graphics.Rect
import android.media.Image
import android.media.MediaCodec
import android.media.MediaFormat
import android.net.Uri
import io.movinetedge.preprocess.ColourMatrix
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.shadows.ShadowMediaCodec
import org.robolectric.shadows.ShadowMediaExtractor
import org.robolectric.shadows.util.DataSource
import java.io.IOException
import java.nio.ByteBuffer

private const val WIDTH = 6
private const val HEIGHT = 4
private const val PADDED = 8 // decoders pad rows, and what is above and left of the picture
private const val SAMPLE = 16

/** A decoder whose pictures are grey, as bright as the first byte of their sample says. */
@Implements(MediaCodec::class)
class GreyCodec : ShadowMediaCodec() {
    @Implementation
    protected fun getOutputImage(index: Int): Image =
        GreyImage(getBuffer(false, index).get(0).toInt() and 0xFF)
}

/** Within a border of another brightness, which is cropped. */
private class GreyImage(
    private val light: Int,
) : Image() {
    override fun getFormat() = android.graphics.ImageFormat.YUV_420_888

    override fun getWidth() = PADDED

    override fun getHeight() = PADDED

    override fun getTimestamp() = 0L

    override fun getCropRect() = Rect(2, 2, 2 + WIDTH, 2 + HEIGHT)

    override fun getTransform() = 0

    override fun getScalingMode() = 0

    override fun close() = Unit

    override fun getPlanes(): Array<Plane> = arrayOf(luma(), chroma(), chroma())

    private fun luma() =
        plane(PADDED, 1) { x, y -> if (x in 2 until 2 + WIDTH && y in 2 until 2 + HEIGHT) light else 255 }

    private fun chroma() = plane(PADDED, 2) { _, _ -> 128 }

    private fun plane(
        rowStride: Int,
        pixelStride: Int,
        value: (Int, Int) -> Int,
    ): Plane {
        val bytes = ByteBuffer.allocateDirect(rowStride * PADDED)
        for (at in 0 until rowStride * PADDED) {
            bytes.put(at, value(at % rowStride, at / rowStride).toByte())
        }
        return object : Plane() {
            override fun getRowStride() = rowStride

            override fun getPixelStride() = pixelStride

            override fun getBuffer() = bytes
        }
    }
}

/** The loop that feeds a codec and takes its pictures; the codec itself is a stand-in. */
@RunWith(RobolectricTestRunner::class)
@Config(shadows = [GreyCodec::class])
class MediaSourceTest {
    private val context = RuntimeEnvironment.getApplication()
    private val file = Uri.parse("content://films/grey")

    private fun film(
        mime: String,
        samples: ByteArray,
        change: MediaFormat.() -> Unit = {},
    ): MediaSource {
        val format = MediaFormat.createVideoFormat(mime, WIDTH, HEIGHT)
        format.change()
        ShadowMediaExtractor.addTrack(DataSource.toDataSource(context, file, null), format, samples)
        return MediaSource(context, file)
    }

    @After
    fun forget() {
        ShadowMediaExtractor.reset()
        ShadowMediaCodec.clearCodecs()
    }

    @Test
    fun `all pictures come, cropped and in order`() {
        val config = ShadowMediaCodec.CodecConfig(SAMPLE, SAMPLE) { from, to -> to.put(from) }
        ShadowMediaCodec.addDecoder("video/avc", config)
        val light = listOf(16, 100, 200, 235)
        val samples = ByteArray(SAMPLE * light.size) { light[it / SAMPLE].toByte() }
        film("video/avc", samples).use { source ->
            val seen = ArrayList<Float>()
            while (true) {
                val frame = source.next()?.frame ?: break
                assertEquals(WIDTH to HEIGHT, frame.width to frame.height)
                val row = FloatArray(3 * WIDTH)
                frame.readRow(HEIGHT - 1, 0, WIDTH, row)
                assertTrue("the border shows: ${row.toList()}", row.all { it == row[0] })
                seen += row[0]
            }
            // limited range: 16 is black, 235 is white
            assertEquals(listOf(0f, 98f, 214f, 255f), seen)
            assertNull(source.next())
        }
    }

    @Test
    fun `what is no video is said`() {
        val sound = MediaFormat.createAudioFormat("audio/mp4a-latm", 44_100, 2)
        ShadowMediaExtractor.addTrack(DataSource.toDataSource(context, file, null), sound, ByteArray(4))
        val error = assertThrows(IOException::class.java) { MediaSource(context, file) }
        assertEquals("the file has no video", error.message)
    }

    @Test
    fun `colours are as the video says, or as most videos are`() {
        fun colouring(
            rows: Int,
            change: MediaFormat.() -> Unit = {},
        ) = colouringOf(MediaFormat.createVideoFormat("video/avc", 640, rows).apply(change))
        assertEquals(ColourMatrix.BT601, colouring(480).matrix)
        assertEquals(ColourMatrix.BT709, colouring(1080).matrix)
        assertEquals(false, colouring(480).fullRange)
        val told =
            colouring(480) {
                setInteger(MediaFormat.KEY_COLOR_STANDARD, MediaFormat.COLOR_STANDARD_BT709)
                setInteger(MediaFormat.KEY_COLOR_RANGE, MediaFormat.COLOR_RANGE_FULL)
            }
        assertEquals(ColourMatrix.BT709, told.matrix)
        assertEquals(true, told.fullRange)
    }
}
