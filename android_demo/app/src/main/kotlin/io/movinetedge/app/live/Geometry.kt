package io.movinetedge.app.live

private const val TURN = 360
private const val HALF = 180

/** The sides of a picture in pixels. */
data class Side(
    val width: Int,
    val height: Int,
) {
    val short: Int get() = minOf(width, height)

    /** The sides after turning by [degrees], a multiple of 90. */
    fun turned(degrees: Int) = if (degrees % HALF == 0) this else Side(height, width)
}

/**
 * By how many degrees clockwise a sensor's pictures are turned to be upright on a display that is
 * itself turned by [display] degrees.
 */
fun uprightRotation(
    sensor: Int,
    display: Int,
    front: Boolean,
): Int = (if (front) sensor + display else sensor - display + TURN) % TURN

/**
 * Of the [sizes] that a camera offers the smallest one whose shorter side has [least] pixels, so that
 * nothing is enlarged and little is thrown away; the largest where all are smaller.
 */
fun chooseSize(
    sizes: List<Side>,
    least: Int,
): Side? {
    val enough = sizes.filter { it.short >= least }
    if (enough.isEmpty()) return sizes.maxByOrNull { it.short }
    // Of equally short ones that with the least beside the square that models look at.
    return enough.minWith(compareBy({ it.short }, { it.width * it.height }))
}

/** Scale about the centre, then turn clockwise about it. */
data class Placement(
    val scaleX: Float,
    val scaleY: Float,
    val degrees: Float,
)

/**
 * How a preview is shown whole, upright and undistorted. A texture view stretches the camera's
 * [buffer] over the [view] as if the display were not turned; this is what is to be done after that.
 */
fun placePreview(
    view: Side,
    buffer: Side,
    sensor: Int,
    display: Int,
): Placement {
    val natural = buffer.turned(sensor)
    val shown = natural.turned(display)
    val scale = minOf(view.width.toFloat() / shown.width, view.height.toFloat() / shown.height)
    return Placement(
        scaleX = scale * natural.width / view.width,
        scaleY = scale * natural.height / view.height,
        degrees = ((TURN - display) % TURN).toFloat(),
    )
}
