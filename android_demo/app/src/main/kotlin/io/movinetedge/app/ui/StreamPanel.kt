package io.movinetedge.app.ui

import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.ProgressBar
import android.widget.TextView
import io.movinetedge.app.R
import io.movinetedge.app.live.Score
import io.movinetedge.app.live.Snapshot

private const val WHOLE = 1000
private const val ROWS = 5

/** The answer of a running stream as bars, and what is measured of it. */
class StreamPanel(
    private val root: View,
) {
    private val context = root.context
    private val bars = List(ROWS) { Bar(root.findViewById(R.id.bars)) }
    private val latency = root.findViewById<TextView>(R.id.latency)
    private val rate = root.findViewById<TextView>(R.id.rate)
    private val frames = root.findViewById<TextView>(R.id.frames)
    private val thermal = root.findViewById<TextView>(R.id.thermal)
    private val decision = root.findViewById<TextView>(R.id.decision)

    fun show(snapshot: Snapshot) {
        bars.forEachIndexed { place, bar -> bar.show(snapshot.top.getOrNull(place)) }
        latency.text =
            if (snapshot.p50 == null || snapshot.p95 == null) {
                context.getString(R.string.latency_none)
            } else {
                context.getString(R.string.latency, snapshot.p50, snapshot.p95)
            }
        rate.text = context.getString(R.string.rate, snapshot.frameRate ?: 0.0, snapshot.wantedRate)
        frames.text = context.getString(R.string.frames, snapshot.taken, snapshot.missed, snapshot.dropped)
        decision.showOrHide(snapshot.decision?.let { context.getString(R.string.decision, it) })
    }

    /** How hot the phone is, from 0 to 6. */
    fun showThermal(status: Int) {
        val names = context.resources.getStringArray(R.array.thermal)
        thermal.text = context.getString(R.string.thermal_status, names[status.coerceIn(names.indices)])
    }
}

private class Bar(
    parent: ViewGroup,
) {
    private val root =
        LayoutInflater.from(parent.context).inflate(R.layout.bar, parent, false).also(parent::addView)
    private val label = root.findViewById<TextView>(R.id.bar_label)
    private val share = root.findViewById<TextView>(R.id.bar_share)
    private val gauge = root.findViewById<ProgressBar>(R.id.bar)

    fun show(score: Score?) {
        root.visibility = if (score == null) View.GONE else View.VISIBLE
        if (score == null) return
        val percent = root.resources.getString(R.string.percent, score.probability * 100)
        // Only what has changed: a screen reader would begin anew.
        if (label.text.toString() != score.label) label.text = score.label
        if (share.text.toString() != percent) {
            share.text = percent
        }
        val spoken = root.resources.getString(R.string.bar_spoken, score.label, percent)
        if (root.contentDescription != spoken) root.contentDescription = spoken
        gauge.max = WHOLE
        gauge.progress = (score.probability * WHOLE).toInt()
    }
}
