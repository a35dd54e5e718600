package io.movinetedge.app.ui

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.widget.TextView
import io.movinetedge.app.Setting
import io.movinetedge.app.Trouble
import io.movinetedge.app.all
import io.movinetedge.app.app
import io.movinetedge.app.isThere
import io.movinetedge.app.root
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.ParameterizedRobolectricTestRunner
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

/** Every screen opens, turns, is made anew, and comes back after the app was ended. */
@RunWith(ParameterizedRobolectricTestRunner::class)
class ScreensTest(
    private val tab: Tab,
) {
    private fun build(intent: Intent? = null): ActivityController<out Screen> {
        val target = tab.intent(RuntimeEnvironment.getApplication())

        @Suppress("UNCHECKED_CAST")
        val type = Class.forName(target.component!!.className) as Class<out Screen>
        return Robolectric.buildActivity(type, intent ?: target)
    }

    private fun Activity.isWhole() {
        val tabs = root.all().filterIsInstance<TextView>().filter { it.isSelected }
        assertEquals(listOf(getString(tab.title)), tabs.map { it.text.toString() })
        assertEquals(getString(tab.title), title.toString())
    }

    @Test
    fun `it opens, and the other tabs lead to the others`() {
        build().use { controller ->
            val screen = controller.setup().get()
            screen.isWhole()
            for (other in Tab.entries - tab) {
                val title = screen.getString(other.title)
                val button = screen.root.all().first { (it as? TextView)?.text?.toString() == title }
                button.performClick()
                val next = shadowOf(screen).nextStartedActivity
                assertEquals(other.intent(screen).component, next.component)
            }
        }
    }

    @Test
    fun `it turns and turns back`() {
        build().use { controller ->
            controller.setup()
            for (side in listOf("+land", "+port", "+land")) {
                val before = controller.get()
                RuntimeEnvironment.setQualifiers(side)
                controller.configurationChange()
                assertNotSame("it is made anew", before, controller.get())
                controller.get().isWhole()
            }
        }
    }

    @Test
    fun `what was shown to be wrong is still shown after the app was ended`() {
        val saved = Bundle()
        build().use { controller ->
            val screen = controller.setup().get()
            screen.show(Trouble.VIDEO_UNREADABLE, "why")
            controller.pause().stop().saveInstanceState(saved)
        }
        build().use { controller ->
            val screen =
                controller
                    .create(saved)
                    .start()
                    .restoreInstanceState(saved)
                    .get()
            assertEquals(Trouble.VIDEO_UNREADABLE, screen.trouble)
            controller.resume().visible()
            screen.isWhole()
        }
    }

    @Test
    fun `an unknown engine of an older version is replaced`() {
        RuntimeEnvironment.getApplication().app.setting = Setting("onnxruntime", "xnnpack", 3, "int8")
        build().use { controller ->
            val screen = controller.setup().get()
            assertEquals(Setting("onnxruntime", "xnnpack", 3, "int8"), screen.app.setting)
            screen.isWhole()
        }
        val kept = RuntimeEnvironment.getApplication().getSharedPreferences("settings", 0)
        kept.edit().putString("engine", "abacus").commit()
        build().use {
            assertEquals(
                "tflite",
                it
                    .setup()
                    .get()
                    .app.setting.engine,
            )
        }
    }

    @Test
    fun `it can be read by a screen reader`() {
        build().use { controller ->
            val silent =
                controller.setup().visible().get().root.all().filter { view ->
                    val isText = (view as? TextView)?.text?.isNotEmpty() == true
                    (view.isClickable || view is android.widget.ImageView) && view.isThere &&
                        !isText && view.contentDescription.isNullOrEmpty()
                }
            assertTrue("$silent", silent.isEmpty())
        }
    }

    companion object {
        @JvmStatic
        @ParameterizedRobolectricTestRunner.Parameters(name = "{0}")
        fun tabs() = Tab.entries.map { arrayOf<Any>(it) }
    }
}
