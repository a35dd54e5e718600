package io.movinetedge.app

import android.app.Activity
import android.content.Intent
import android.view.ViewGroup
import android.widget.TextView
import io.movinetedge.bench.reportOf
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.File

/** The screen that adb opens. */
@RunWith(RobolectricTestRunner::class)
class BenchmarkActivityTest {
    private val app = RuntimeEnvironment.getApplication() as TestApp
    private val folder = checkNotNull(app.getExternalFilesDir(null))
    private val records = folder.resolve("records")

    private fun opened(vararg extras: Pair<String, Any>) =
        Robolectric
            .buildActivity(
                BenchmarkActivity::class.java,
                Intent().apply {
                    for ((name, value) in extras) {
                        if (value is Int) putExtra(name, value) else putExtra(name, value.toString())
                    }
                },
            ).setup()

    private fun there(name: String): File {
        waitUntil("there is $name") { records.resolve(name).exists() }
        return records.resolve(name)
    }

    @Test
    fun `it measures what was pushed, and ends`() {
        Fixtures.motion.copyRecursively(folder.resolve("bundles/mine"))
        val words =
            arrayOf(
                "bundle" to "mine",
                "engine" to "ort",
                "precision" to "int8",
                "threads" to 2,
                "steps" to 9,
            )
        val screen = opened(*words, "out" to "mine.json").get()
        val record = reportOf(there("mine.json").readText())
        val measured = record.measurements.single()
        assertEquals("android", record.machine.device)
        assertEquals("int8", measured.subject.precision)
        assertEquals(9, measured.method.steps)
        assertEquals(2, measured.method.threads)
        waitUntil("it ends") { screen.isFinishing }
    }

    @Test
    fun `without a name it measures what is built in`() {
        opened("engine" to "onnxruntime", "steps" to 3)
        val record = reportOf(there("record.json").readText())
        assertEquals(
            "movinet-a0-stream",
            record.measurements
                .single()
                .subject.bundle,
        )
    }

    @Test
    fun `an accelerator that cannot take the model is said, not replaced`() {
        val screen = opened("delegate" to "gpu").get()
        val sentence = there("record.json.refused").readText()
        assertTrue(sentence, "no such chip" in sentence)
        waitUntil("it is shown") { screen.shown() == sentence }
        assertTrue(!records.resolve("record.json").exists())
    }

    @Test
    fun `it goes on while the phone turns`() {
        opened("engine" to "ort", "steps" to 3).use { controller ->
            val screen = controller.get()
            RuntimeEnvironment.setQualifiers("+land")
            controller.configurationChange()
            assertSame(screen, controller.get())
            there("record.json")
            assertEquals(listOf("record.json", "record.json.progress"), records.list()!!.sorted())
        }
    }

    @Test
    fun `made anew it begins anew, and leaves one record`() {
        val controller = opened("engine" to "ort", "mode" to "sustained", "minutes" to "0.1")
        waitUntil("it has begun") { progress() != null }
        val first = controller.get()
        controller.recreate()
        assertNotSame(first, controller.get())
        var hasWaited = false
        waitUntil("the first one has given up") {
            val workers = workers()
            hasWaited = hasWaited || workers.any { it.state == Thread.State.WAITING }
            workers.size == 1
        }
        assertTrue("both wrote the same files", hasWaited)
        val record = reportOf(there("record.json").readText())
        assertTrue(
            record.measurements
                .single()
                .sustained!!
                .seconds >= 6,
        )
        waitUntil("it ends") { controller.get().isFinishing }
        assertTrue("the first one ended it", !first.isFinishing)
        assertEquals(listOf("record.json", "record.json.progress"), records.list()!!.sorted())
    }

    @Test
    fun `a full disk is said on the screen`() {
        records.writeText("in the way")
        val screen = opened("engine" to "ort").get()
        waitUntil("it is shown") { "free some space" in screen.shown() }
    }

    private fun Activity.shown() =
        (findViewById<ViewGroup>(android.R.id.content).getChildAt(0) as TextView).text.toString()

    private fun workers() = Thread.getAllStackTraces().keys.filter { it.name == "benchmark" && it.isAlive }

    private fun progress() = records.resolve("record.json.progress").takeIf { it.exists() }?.readText()

    @Test
    fun `it stops when the screen is left`() {
        val controller = opened("engine" to "ort", "mode" to "sustained", "minutes" to "60")
        waitUntil("it is timing") { progress() == "timing" }
        val worker = workers().single()
        controller.pause().stop().destroy()
        worker.join(60_000)
        assertTrue("it still runs", !worker.isAlive)
        assertTrue(!records.resolve("record.json").exists())
    }
}
