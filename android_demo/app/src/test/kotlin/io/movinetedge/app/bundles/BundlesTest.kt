package io.movinetedge.app.bundles

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.RadioButton
import io.movinetedge.app.Fixtures
import io.movinetedge.app.R
import io.movinetedge.app.TestApp
import io.movinetedge.app.Way
import io.movinetedge.app.all
import io.movinetedge.app.assertSays
import io.movinetedge.app.isThere
import io.movinetedge.app.press
import io.movinetedge.app.root
import io.movinetedge.app.text
import io.movinetedge.app.waitUntil
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf

/** Bundles are listed, chosen, opened and deleted. */
@RunWith(RobolectricTestRunner::class)
class BundlesTest {
    private val app = RuntimeEnvironment.getApplication() as TestApp
    private val controller = Robolectric.buildActivity(BundlesActivity::class.java)

    private fun BundlesActivity.rows() = root.all().filterIsInstance<RadioButton>()

    private fun BundlesActivity.waitForAbout(name: String) =
        waitUntil("$name is described") {
            findViewById<View>(R.id.about).isThere && text(R.id.about).startsWith(name)
        }

    private fun choose(
        screen: BundlesActivity,
        content: ByteArray,
        name: String = "mine.zip",
    ) {
        screen.press(R.string.choose_bundle)
        val asked = shadowOf(screen).nextStartedActivityForResult
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, asked.intent.action)
        val file = Uri.parse("content://documents/$name")
        shadowOf(screen.contentResolver).registerInputStream(file, content.inputStream())
        shadowOf(screen).receiveResult(asked.intent, Activity.RESULT_OK, Intent().setData(file))
    }

    @Test
    fun `the app's own one is there, chosen and described`() {
        val screen = controller.setup().get()
        screen.waitForAbout("movinet-a0-stream")
        val row = screen.rows().single()
        assertTrue(row.isChecked)
        val about = screen.text(R.id.about)
        assertTrue(about, "12 classes, 64 × 64 pixels, 2.5 frames per second" in about)
        assertTrue("/bundles/" in screen.text(R.id.pushing))
    }

    @Test
    fun `a zip of the system's picker is kept and chosen`() {
        val screen = controller.setup().get()
        choose(screen, Fixtures.zipped(Fixtures.bundle("arnet")))
        screen.waitForAbout("arnet-custom")
        assertEquals("imported/mine.zip", app.settings.bundle)
        assertEquals(listOf(false, true), screen.rows().map { it.isChecked })
        screen.press(R.string.delete)
        screen.waitForAbout("movinet-a0-stream")
        assertEquals(null, app.settings.bundle)
        assertEquals(1, screen.rows().size)
    }

    @Test
    fun `what was pushed is there`() {
        Fixtures.bundle("arnet").copyRecursively(app.getExternalFilesDir("bundles")!!.resolve("pushed-one"))
        val screen = controller.setup().get()
        val row = screen.rows().last()
        assertEquals("pushed-one", row.text.toString())
        row.performClick()
        screen.waitForAbout("arnet-custom")
        assertEquals("pushed/pushed-one", app.settings.bundle)
    }

    @Test
    fun `a zip that is no bundle is said, and another one can be chosen`() {
        val screen = controller.setup().get()
        screen.waitForAbout("movinet-a0-stream")
        choose(screen, "no zip".toByteArray())
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_bundle_damaged, Way.CHOOSE_BUNDLE)
        assertEquals(1, screen.rows().size)
        screen.press(R.string.way_choose_bundle)
        assertNotNull(shadowOf(screen).nextStartedActivityForResult)
    }

    @Test
    fun `a full phone is said`() {
        val blocked = app.filesDir.resolve("imported").also { it.writeText("in the way") }
        val screen = controller.setup().get()
        screen.waitForAbout("movinet-a0-stream")
        choose(screen, Fixtures.zipped(Fixtures.bundle("arnet")))
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_no_space, Way.FREE_SPACE, Way.TRY_AGAIN)
        blocked.delete()
        screen.press(R.string.way_try_again)
        screen.waitForAbout("movinet-a0-stream")
    }

    @Test
    fun `it opens while the phone is turned`() {
        val screen = controller.setup().get()
        choose(screen, Fixtures.zipped(Fixtures.bundle("arnet")))
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        controller.get().waitForAbout("arnet-custom")
        val saved = Bundle()
        controller
            .pause()
            .stop()
            .saveInstanceState(saved)
            .destroy()
        Robolectric.buildActivity(BundlesActivity::class.java).use { again ->
            again.setup(saved)
            again.get().waitForAbout("arnet-custom")
        }
    }
}
