package io.movinetedge.app.check

import android.os.Bundle
import android.view.ViewGroup
import android.widget.TextView
import io.movinetedge.app.R
import io.movinetedge.app.TestApp
import io.movinetedge.app.Way
import io.movinetedge.app.all
import io.movinetedge.app.assertSays
import io.movinetedge.app.press
import io.movinetedge.app.text
import io.movinetedge.app.waitUntil
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment

/** The golden stream on everything that runs it, and what is not there said as such. */
@RunWith(RobolectricTestRunner::class)
class CheckTest {
    private val app = RuntimeEnvironment.getApplication() as TestApp
    private val controller = Robolectric.buildActivity(CheckActivity::class.java)

    private fun CheckActivity.rows(): List<List<String>> =
        findViewById<ViewGroup>(R.id.rows).let { rows ->
            (0 until rows.childCount).map { place ->
                rows
                    .getChildAt(place)
                    .all()
                    .filterIsInstance<TextView>()
                    .map { it.text.toString() }
            }
        }

    private fun CheckActivity.waitForChecks() =
        waitUntil("all checks are done") {
            rows().size == ROWS && text(R.id.run_checks) == getString(R.string.run_checks)
        }

    @Test
    fun `every engine, delegate and precision has a verdict`() {
        val screen = controller.setup().get()
        screen.press(R.string.run_checks)
        assertEquals(screen.getString(R.string.stop), screen.text(R.id.run_checks))
        screen.waitForChecks()
        val verdicts = screen.rows().associate { it[0] to it[1] }
        for (precision in listOf("fp32", "int8")) {
            assertEquals("Passed", verdicts["ONNX Runtime, CPU (plain), $precision"])
            assertEquals("Not on this phone", verdicts["ONNX Runtime, NNAPI, $precision"])
            assertEquals("Not on this phone", verdicts["TensorFlow Lite, NNAPI, $precision"])
            assertEquals("Cannot run this model", verdicts["TensorFlow Lite, GPU, $precision"])
        }
        assertEquals("Passed", verdicts["TensorFlow Lite, CPU (XNNPACK), fp32"])
        // Its natives for this computer are older than the file asks for; the check notices.
        assertEquals("Failed: wrong numbers", verdicts["TensorFlow Lite, CPU (XNNPACK), int8"])
        val detail = screen.rows().first { it[0].startsWith("TensorFlow Lite, CPU (XNNPACK), int8") }[2]
        assertTrue(detail, detail.startsWith("Error ") && "above" in detail)
        val passed = verdicts.values.count { it == "Passed" }
        val failed = verdicts.values.count { it == "Failed: wrong numbers" }
        val rest = ROWS - passed - failed
        assertTrue(screen.text(R.id.checked_bundle).endsWith("$passed passed, $failed failed, $rest not run"))
    }

    @Test
    fun `results outlive turning, and the end of the app`() {
        val screen = controller.setup().get()
        screen.press(R.string.run_checks)
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        val turned = controller.get()
        turned.waitForChecks()
        val rows = turned.rows()
        val saved = Bundle()
        controller
            .pause()
            .stop()
            .saveInstanceState(saved)
            .destroy()
        Robolectric.buildActivity(CheckActivity::class.java).use { again ->
            again.setup(saved)
            assertEquals(rows, again.get().rows())
        }
    }

    @Test
    fun `it can be stopped`() {
        val screen = controller.setup().get()
        screen.press(R.string.run_checks)
        waitUntil("it has begun") { screen.rows().isNotEmpty() }
        screen.press(R.string.stop)
        assertEquals(screen.getString(R.string.run_checks), screen.text(R.id.run_checks))
        assertTrue(screen.rows().none { it[1] == screen.getString(R.string.verdict_running) })
    }

    @Test
    fun `a damaged bundle is said`() {
        app.getExternalFilesDir("bundles")!!.resolve("bad.zip").writeText("no zip")
        app.settings.bundle = "pushed/bad.zip"
        val screen = controller.setup().get()
        screen.press(R.string.run_checks)
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_bundle_damaged, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT)
        screen.press(R.string.way_use_default)
        waitUntil("checks run") { screen.rows().isNotEmpty() }
    }

    private companion object {
        const val ROWS = 14 // two precisions on four delegates of one engine and three of the other
    }
}
