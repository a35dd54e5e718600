package io.movinetedge.app.ui

import android.widget.TextView
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner

/** The first screen. */
@RunWith(RobolectricTestRunner::class)
class MainActivityTest {
    @Test
    fun `it opens`() {
        Robolectric.buildActivity(MainActivity::class.java).use { controller ->
            val activity = controller.setup().get()
            val content = activity.findViewById<android.view.ViewGroup>(android.R.id.content)
            assertEquals("movinet-edge", (content.getChildAt(0) as TextView).text)
        }
    }
}
