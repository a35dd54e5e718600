package io.movinetedge.app.ui

import android.content.Context
import android.util.AttributeSet
import android.widget.ScrollView

private const val SHARE = 0.6

/** Takes at most a part of the height that there is; the rest is scrolled to. */
class LowScrollView(
    context: Context,
    attributes: AttributeSet,
) : ScrollView(context, attributes) {
    override fun onMeasure(
        widthMeasureSpec: Int,
        heightMeasureSpec: Int,
    ) {
        val most = (MeasureSpec.getSize(heightMeasureSpec) * SHARE).toInt()
        super.onMeasure(widthMeasureSpec, MeasureSpec.makeMeasureSpec(most, MeasureSpec.AT_MOST))
    }
}
