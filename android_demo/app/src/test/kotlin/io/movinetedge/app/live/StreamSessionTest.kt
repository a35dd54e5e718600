package io.movinetedge.app.live

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.app.FRAMES
import io.movinetedge.app.Fixtures
import io.movinetedge.app.Setting
import io.movinetedge.app.TestApp
import io.movinetedge.app.wanted
import io.movinetedge.bundle.Bundle
import io.movinetedge.check.readGolden
import io.movinetedge.preprocess.Frame
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment

private const val SECOND = 1_000_000_000L

/** Frames in, a picture of what is going on out; on real engines. */
@RunWith(RobolectricTestRunner::class)
class StreamSessionTest {
    private val app = RuntimeEnvironment.getApplication() as TestApp
    private val bundle = Bundle(Fixtures.motion)
    private val golden = readGolden(bundle)
    private val rate = bundle.manifest.preprocessing.frameRate

    private fun session() = StreamSession(app.engines, app.cacheDir)

    /** Show the golden stream at [rate] frames per second; the last snapshot. */
    private fun StreamSession.show(rate: Double): Snapshot {
        val frame = golden.frame()
        var last: Snapshot? = null
        for (step in 0 until FRAMES) {
            golden.show(frame, step)
            last = take(frame, (step * SECOND / rate).toLong()) ?: last
        }
        return last!!
    }

    @Test
    fun `what it shows is what the model answers`() {
        val wanted = golden.wanted(bundle)
        for (engine in listOf("tflite", "onnxruntime")) {
            session().use { session ->
                val opened = session.open(Fixtures.motion, Setting(threads = 1).with(engine))
                assertEquals(setOf("fp32", "int8"), opened.precisions.toSet())
                assertEquals("fp32", opened.precision)
                assertEquals(emptyList<Score>(), opened.snapshot.top)
                val shown = session.show(rate)
                assertEquals(engine, wanted, shown.top.first().label)
                assertEquals(5, shown.top.size)
                assertTrue(shown.top.zipWithNext().all { (a, b) -> a.probability >= b.probability })
                assertEquals(FRAMES.toLong(), shown.taken)
                assertEquals(0L, shown.missed)
                assertTrue(shown.p50!! > 0 && shown.p95!! >= shown.p50)
            }
        }
    }

    @Test
    fun `frames that come too fast are left out, and too slow ones are missed`() {
        session().use { session ->
            session.open(Fixtures.motion, Setting(threads = 1))
            val fast = session.show(4 * rate)
            assertEquals((FRAMES + 3) / 4, fast.taken.toInt())
            session.restart()
            val slow = session.show(rate / 3)
            assertEquals(FRAMES.toLong(), slow.taken)
            assertEquals(2L * (FRAMES - 1), slow.missed)
        }
    }

    @Test
    fun `settings change while it runs`() {
        session().use { session ->
            session.open(Fixtures.motion, Setting(threads = 1))
            val first = session.show(rate).top.first()
            session.open(Fixtures.motion, Setting("onnxruntime", "none", 1, "int8"))
            val second = session.show(rate).top.first()
            assertEquals(first.label, second.label)
        }
    }

    @Test
    fun `after a failure nothing runs, and another setting does`() {
        session().use { session ->
            fun fault(
                setting: Setting,
                name: String = "int8",
            ) = assertThrows(BadInput::class.java) { session.open(Fixtures.bundle(name), setting) }.fault
            assertEquals(Fault.NO_DELEGATE, fault(Setting(delegate = "nnapi")))
            assertFalse(session.isOpen)
            assertNull(session.take(golden.frame(), 0))
            assertEquals(Fault.REFUSED, fault(Setting(delegate = "gpu")))
            assertEquals(Fault.NO_FILE, fault(Setting(precision = "fp16")))
            session.open(Fixtures.motion, Setting(threads = 1))
            assertTrue(session.isOpen)
        }
    }

    @Test
    fun `a model that decides tells what`() {
        val arnet = Bundle(Fixtures.bundle("arnet"))
        val names =
            arnet.manifest.plan.choice!!
                .actions
                .map { it.name }
        val film = readGolden(arnet)
        session().use { session ->
            session.open(Fixtures.bundle("arnet"), Setting("onnxruntime", "none", 1))
            val frame: Frame = film.frame()
            assertTrue(session.take(frame, 0)!!.decision in names)
        }
    }
}
