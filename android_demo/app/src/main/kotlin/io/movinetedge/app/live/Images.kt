package io.movinetedge.app.live

import android.graphics.Bitmap
import android.graphics.Rect
import android.media.Image
import io.movinetedge.preprocess.ColourMatrix
import io.movinetedge.preprocess.Frame
import io.movinetedge.preprocess.Plane
import io.movinetedge.preprocess.YuvFrame
import java.nio.ByteBuffer

private const val CHANNELS = 3
private const val OPAQUE = 0xFF shl 24
private const val RED = 16
private const val GREEN = 8
private const val QUARTER = 90

/** How a picture's numbers are colours: as cameras have them, unless a video says otherwise. */
data class Colouring(
    val fullRange: Boolean = true,
    val matrix: ColourMatrix = ColourMatrix.BT601,
)

/**
 * The part of an [image] (YUV_420_888) that is meant to be seen, where it lies: it is no longer to be
 * read once the image is closed.
 */
fun frameOf(
    image: Image,
    rotation: Int,
    colouring: Colouring = Colouring(),
): YuvFrame {
    val crop = image.cropRect?.takeUnless { it.isEmpty } ?: Rect(0, 0, image.width, image.height)
    val planes =
        image.planes.mapIndexed { index, plane ->
            val shrink = if (index == 0) 1 else 2
            val first = crop.top / shrink * plane.rowStride + crop.left / shrink * plane.pixelStride
            Plane(plane.buffer.from(first), plane.rowStride, plane.pixelStride)
        }
    val (luma, cb, cr) = planes
    return YuvFrame(
        crop.height(),
        crop.width(),
        luma,
        cb,
        cr,
        rotation,
        colouring.fullRange,
        colouring.matrix,
    )
}

private fun ByteBuffer.from(first: Int): ByteBuffer {
    val whole = duplicate()
    whole.position(first)
    return whole.slice()
}

/** [frame] upright, with sides of at most [most] pixels. */
fun pictureOf(
    frame: Frame,
    most: Int,
): Bitmap {
    val upright = Side(frame.width, frame.height).turned(frame.rotation)
    val scale = minOf(1f, most.toFloat() / maxOf(upright.width, upright.height))
    val stored =
        Side((frame.width * scale).toInt().coerceAtLeast(1), (frame.height * scale).toInt().coerceAtLeast(1))
    val shown = stored.turned(frame.rotation)
    val pixels = IntArray(shown.width * shown.height)
    val row = FloatArray(frame.width * CHANNELS)
    for (y in 0 until stored.height) {
        frame.readRow(y * frame.height / stored.height, 0, frame.width, row)
        for (x in 0 until stored.width) {
            val at = x * frame.width / stored.width * CHANNELS
            pixels[placeOf(x, y, stored, frame.rotation)] = colour(row, at)
        }
    }
    return Bitmap.createBitmap(pixels, shown.width, shown.height, Bitmap.Config.ARGB_8888)
}

/** Where the stored pixel lies in a picture that is turned clockwise. */
private fun placeOf(
    x: Int,
    y: Int,
    stored: Side,
    rotation: Int,
): Int {
    val (width, height) = stored
    return when (rotation) {
        QUARTER -> x * height + (height - 1 - y)
        2 * QUARTER -> (height - 1 - y) * width + (width - 1 - x)
        3 * QUARTER -> (width - 1 - x) * height + y
        else -> y * width + x
    }
}

private fun colour(
    rgb: FloatArray,
    at: Int,
): Int = OPAQUE or (rgb[at].toInt() shl RED) or (rgb[at + 1].toInt() shl GREEN) or rgb[at + 2].toInt()
