package io.movinetedge.app.ui

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.view.ViewGroup
import android.widget.TextView
import io.movinetedge.app.R
import io.movinetedge.app.bundles.BundlesActivity
import io.movinetedge.app.check.CheckActivity
import io.movinetedge.app.live.LiveActivity
import io.movinetedge.app.measure.MeasureActivity
import io.movinetedge.app.video.VideoActivity

/** The app's screens. */
enum class Tab(
    val title: Int,
    private val screen: Class<out Activity>,
) {
    LIVE(R.string.tab_live, LiveActivity::class.java),
    VIDEO(R.string.tab_video, VideoActivity::class.java),
    BUNDLES(R.string.tab_bundles, BundlesActivity::class.java),
    CHECK(R.string.tab_check, CheckActivity::class.java),
    MEASURE(R.string.tab_measure, MeasureActivity::class.java),
    ;

    /** Goes to the screen, of which there is one. */
    fun intent(context: Context): Intent =
        Intent(context, screen)
            .addFlags(Intent.FLAG_ACTIVITY_REORDER_TO_FRONT)
            .addFlags(Intent.FLAG_ACTIVITY_NO_ANIMATION)
}

/** Show all tabs in [bar], of which [own] is the one that is open. */
fun Activity.showTabs(
    bar: ViewGroup,
    own: Tab,
) {
    for (tab in Tab.entries) {
        val view = layoutInflater.inflate(R.layout.tab, bar, false) as TextView
        view.setText(tab.title)
        view.isSelected = tab == own
        view.setOnClickListener { if (tab != own) startActivity(tab.intent(this)) }
        bar.addView(view)
    }
}
