package io.movinetedge.preprocess

import io.movinetedge.bundle.Preprocessing

private const val HALF_TURN = 180
private const val QUARTER = 90

/**
 * Fits frames of one size and rotation to a contract's size.
 *
 * It goes through a frame's rows as they lie in memory, whatever its rotation, and writes each pixel
 * to where it belongs when upright. It allocates nothing while it does.
 */
internal class Resizer(
    private val contract: Preprocessing,
    private val height: Int,
    private val width: Int,
    private val rotation: Int,
) {
    private val turned = rotation % HALF_TURN != 0
    private val rows: Axis
    private val columns: Axis
    private val rowTargets = if (turned) contract.width else contract.height
    private val columnTargets = if (turned) contract.height else contract.width
    private val pixels: FloatArray
    private val narrow = FloatArray(columnTargets * CHANNELS)
    private val isAsIs = rotation == 0 && height == contract.height && width == contract.width

    init {
        val uprightHeight = if (turned) width else height
        val uprightWidth = if (turned) height else width
        val seen = region(contract, uprightHeight, uprightWidth)
        val down = axis(uprightHeight, contract.height, seen.top, seen.height)
        val across = axis(uprightWidth, contract.width, seen.left, seen.width)
        // Clockwise by 90 degrees, what was the last row becomes the first column.
        rows = if (turned) across.mirroredIf(rotation == QUARTER) else down.mirroredIf(rotation != 0)
        columns =
            if (turned) down.mirroredIf(rotation != QUARTER) else across.mirroredIf(rotation != 0)
        pixels = FloatArray((columns.until - columns.from) * CHANNELS)
    }

    /** Whether it is for frames like this one. */
    fun suits(frame: Frame): Boolean =
        frame.height == height && frame.width == width && frame.rotation == rotation

    /** Write a frame to [target], [height, width, 3] of the contract, in 0..255. */
    fun fit(
        frame: Frame,
        target: FloatArray,
    ) {
        if (isAsIs) {
            for (y in 0 until height) {
                frame.readRow(y, 0, width, pixels)
                pixels.copyInto(target, y * pixels.size)
            }
            return
        }
        target.fill(0f)
        for (y in rows.from until rows.until) {
            frame.readRow(y, columns.from, columns.until, pixels)
            shrink()
            for (i in 0 until rows.count(y)) {
                val weight = rows.weights[rows.begin(y) + i]
                if (turned) {
                    addColumn(target, rows.first(y) + i, weight)
                } else {
                    addRow(target, rows.first(y) + i, weight)
                }
            }
        }
    }

    /** The row in [pixels] at the target's number of columns. */
    private fun shrink() {
        narrow.fill(0f)
        var from = 0
        for (x in columns.from until columns.until) {
            var to = columns.first(x) * CHANNELS
            for (w in columns.begin(x) until columns.begin(x + 1)) {
                val weight = columns.weights[w]
                narrow[to] += weight * pixels[from]
                narrow[to + 1] += weight * pixels[from + 1]
                narrow[to + 2] += weight * pixels[from + 2]
                to += CHANNELS
            }
            from += CHANNELS
        }
    }

    private fun addRow(
        target: FloatArray,
        row: Int,
        weight: Float,
    ) {
        val at = row * columnTargets * CHANNELS
        for (i in narrow.indices) target[at + i] += weight * narrow[i]
    }

    private fun addColumn(
        target: FloatArray,
        column: Int,
        weight: Float,
    ) {
        var at = column * CHANNELS
        for (i in narrow.indices step CHANNELS) {
            target[at] += weight * narrow[i]
            target[at + 1] += weight * narrow[i + 1]
            target[at + 2] += weight * narrow[i + 2]
            at += rowTargets * CHANNELS
        }
    }

    private fun axis(
        source: Int,
        target: Int,
        start: Double,
        length: Double,
    ) = resizeAxis(source, target, start, length, contract.antialias)
}

private fun Axis.mirroredIf(condition: Boolean) = if (condition) mirrored() else this
