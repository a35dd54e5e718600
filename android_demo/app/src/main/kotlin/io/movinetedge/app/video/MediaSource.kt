package io.movinetedge.app.video

import android.content.Context
import android.media.Image
import android.media.MediaCodec
import android.media.MediaCodecInfo.CodecCapabilities
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import io.movinetedge.app.live.Colouring
import io.movinetedge.app.live.frameOf
import io.movinetedge.preprocess.ColourMatrix
import java.io.IOException

private const val WAIT_MICROS = 10_000L
private const val NANOS_PER_MICRO = 1000L

/**
 * A video file's pictures, decoded by the phone's codec.
 *
 * @throws IOException it is not there, has no video, or the phone cannot decode it.
 */
class MediaSource(
    context: Context,
    file: Uri,
) : FrameSource {
    private val extractor = MediaExtractor()
    private val codec: MediaCodec
    private val rotation: Int
    private val info = MediaCodec.BufferInfo()
    private var colouring: Colouring
    private var image: Image? = null
    private var held = -1
    private var isFed = false
    private var hasEnded = false

    init {
        var made: MediaCodec? = null
        try {
            extractor.setDataSource(context, file, null)
            val format = chooseTrack()
            rotation = format.int(MediaFormat.KEY_ROTATION) ?: 0
            colouring = colouringOf(format)
            format.setInteger(MediaFormat.KEY_COLOR_FORMAT, CodecCapabilities.COLOR_FormatYUV420Flexible)
            made = MediaCodec.createDecoderByType(requireNotNull(format.getString(MediaFormat.KEY_MIME)))
            codec = made
            decoding {
                codec.configure(format, null, null, 0)
                codec.start()
            }
        } catch (error: IOException) {
            made?.release()
            extractor.release()
            throw error
        } catch (error: IllegalArgumentException) {
            extractor.release()
            throw IOException("the video cannot be opened", error)
        } catch (error: SecurityException) {
            // it was allowed to a screen that is gone
            extractor.release()
            throw IOException("the video may no longer be read", error)
        }
    }

    override fun next(): TimedFrame? =
        decoding {
            giveBack()
            var found: TimedFrame? = null
            while (found == null && !hasEnded) {
                feed()
                found = take()
            }
            found
        }

    override fun close() {
        image?.close()
        codec.release()
        extractor.release()
    }

    private fun chooseTrack(): MediaFormat {
        for (track in 0 until extractor.trackCount) {
            val format = extractor.getTrackFormat(track)
            if (format.getString(MediaFormat.KEY_MIME).orEmpty().startsWith("video/")) {
                extractor.selectTrack(track)
                return format
            }
        }
        throw IOException("the file has no video")
    }

    private fun feed() {
        val slot = if (isFed) -1 else codec.dequeueInputBuffer(0)
        if (slot < 0) return
        val buffer = codec.getInputBuffer(slot) ?: return
        val size = extractor.readSampleData(buffer, 0)
        if (size < 0) {
            codec.queueInputBuffer(slot, 0, 0, 0, MediaCodec.BUFFER_FLAG_END_OF_STREAM)
            isFed = true
        } else {
            codec.queueInputBuffer(slot, 0, size, extractor.sampleTime, 0)
            extractor.advance()
        }
    }

    private fun take(): TimedFrame? {
        val slot = codec.dequeueOutputBuffer(info, WAIT_MICROS)
        if (slot == MediaCodec.INFO_OUTPUT_FORMAT_CHANGED) {
            colouring = colouringOf(codec.outputFormat)
        }
        if (slot < 0) return null
        hasEnded = info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM != 0
        if (info.size == 0) {
            codec.releaseOutputBuffer(slot, false)
            return null
        }
        held = slot
        val picture = codec.getOutputImage(slot) ?: throw IOException("the video's pictures cannot be read")
        image = picture
        return TimedFrame(frameOf(picture, rotation, colouring), info.presentationTimeUs * NANOS_PER_MICRO)
    }

    private fun giveBack() {
        image?.close()
        image = null
        if (held >= 0) codec.releaseOutputBuffer(held, false)
        held = -1
    }
}

private fun MediaFormat.int(key: String): Int? = if (containsKey(key)) getInteger(key) else null

/** Videos say what their colours are, or are as most are: limited range, BT.709 from 720 rows on. */
internal fun colouringOf(format: MediaFormat): Colouring {
    val isLarge = (format.int(MediaFormat.KEY_HEIGHT) ?: 0) >= HD_ROWS
    val matrix =
        when (format.int(MediaFormat.KEY_COLOR_STANDARD)) {
            MediaFormat.COLOR_STANDARD_BT709 -> ColourMatrix.BT709
            MediaFormat.COLOR_STANDARD_BT601_NTSC, MediaFormat.COLOR_STANDARD_BT601_PAL -> ColourMatrix.BT601
            else -> if (isLarge) ColourMatrix.BT709 else ColourMatrix.BT601
        }
    return Colouring(format.int(MediaFormat.KEY_COLOR_RANGE) == MediaFormat.COLOR_RANGE_FULL, matrix)
}

private const val HD_ROWS = 720

/** A codec's exceptions are illegal states; for its users they are a video that cannot be decoded. */
private fun <T> decoding(work: () -> T): T =
    try {
        work()
    } catch (error: IllegalStateException) {
        throw IOException("the phone cannot decode the video", error)
    } catch (error: IllegalArgumentException) {
        throw IOException("the phone cannot decode the video", error)
    }
