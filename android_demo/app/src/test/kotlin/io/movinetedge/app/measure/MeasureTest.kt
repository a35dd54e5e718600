package io.movinetedge.app.measure

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.Spinner
import io.movinetedge.app.R
import io.movinetedge.app.Setting
import io.movinetedge.app.TestApp
import io.movinetedge.app.Way
import io.movinetedge.app.assertSays
import io.movinetedge.app.isThere
import io.movinetedge.app.press
import io.movinetedge.app.text
import io.movinetedge.app.waitUntil
import io.movinetedge.bench.reportOf
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import java.io.ByteArrayOutputStream

private const val PATIENCE_MS = 50_000L // less than the shortest run takes

/** Times on the screen, and their record in others' hands. */
@RunWith(RobolectricTestRunner::class)
class MeasureTest {
    private val app = RuntimeEnvironment.getApplication() as TestApp
    private val controller = Robolectric.buildActivity(MeasureActivity::class.java)

    private fun MeasureActivity.measure(): MeasureActivity {
        press(R.string.start)
        waitUntil("it is measured") { findViewById<View>(R.id.result).isThere }
        return this
    }

    private fun MeasureActivity.shared(): String {
        press(R.string.share)
        val chooser = shadowOf(this).nextStartedActivity

        @Suppress("DEPRECATION")
        val intent = chooser.getParcelableExtra<Intent>(Intent.EXTRA_INTENT)!!
        return intent.getStringExtra(Intent.EXTRA_TEXT)!!
    }

    @Test
    fun `a run back to back is shown, shared and saved`() {
        app.setting = Setting("onnxruntime", "none", 1, "int8")
        val screen = controller.setup().get().measure()
        val record = reportOf(screen.shared())
        val measured = record.measurements.single()
        assertEquals("android", record.machine.device)
        assertEquals(200, measured.method.steps)
        assertEquals("int8", measured.subject.precision)
        val shown = screen.text(R.id.result)
        assertTrue(shown, "%.2f ms (p50)".format(measured.stepMs.p50) in shown)

        screen.press(R.string.save)
        val asked = shadowOf(screen).nextStartedActivityForResult
        assertEquals(Intent.ACTION_CREATE_DOCUMENT, asked.intent.action)
        val file = Uri.parse("content://documents/record")
        val written = ByteArrayOutputStream()
        shadowOf(screen.contentResolver).registerOutputStream(file, written)
        shadowOf(screen).receiveResult(asked.intent, Activity.RESULT_OK, Intent().setData(file))
        assertEquals(record, reportOf(written.toString()))
    }

    @Test
    fun `a result outlives turning, and the end of the app`() {
        val screen = controller.setup().get()
        screen.press(R.string.start)
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        val turned = controller.get()
        waitUntil("it is measured") { turned.findViewById<View>(R.id.result).isThere }
        val shown = turned.text(R.id.result)
        val saved = Bundle()
        controller
            .pause()
            .stop()
            .saveInstanceState(saved)
            .destroy()
        Robolectric.buildActivity(MeasureActivity::class.java).use { again ->
            again.setup(saved)
            assertEquals(shown, again.get().text(R.id.result))
            assertEquals(1, reportOf(again.get().shared()).measurements.size)
        }
    }

    @Test
    fun `a long run can be stopped`() {
        val screen = controller.setup().get()
        screen.findViewById<Spinner>(R.id.mode).setSelection(2)
        waitUntil("minutes can be chosen") { screen.findViewById<View>(R.id.minutes_group).isThere }
        screen.press(R.string.start)
        waitUntil("it is timing") { screen.text(R.id.progress) == screen.getString(R.string.phase_timing) }
        val workers = Thread.getAllStackTraces().keys.filter { it.name == "task" }
        assertTrue(workers.isNotEmpty())
        screen.press(R.string.stop)
        assertEquals(screen.getString(R.string.stopped), screen.text(R.id.progress))
        workers.forEach { it.join(PATIENCE_MS) }
        assertTrue("it still runs", workers.none { it.isAlive })
    }

    @Test
    fun `an engine that computes wrong numbers is not timed`() {
        app.setting = Setting("tflite", "xnnpack", 1, "int8") // older than the file asks for
        val screen = controller.setup().get()
        screen.press(R.string.start)
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_wrong_numbers, Way.CHOOSE_BUNDLE)
    }
}
