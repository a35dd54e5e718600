package io.movinetedge.app.video

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.drawable.BitmapDrawable
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.ImageView
import io.movinetedge.app.FRAMES
import io.movinetedge.app.Fixtures
import io.movinetedge.app.R
import io.movinetedge.app.Way
import io.movinetedge.app.assertSays
import io.movinetedge.app.isThere
import io.movinetedge.app.press
import io.movinetedge.app.text
import io.movinetedge.app.texts
import io.movinetedge.app.waitUntil
import io.movinetedge.app.wanted
import io.movinetedge.check.readGolden
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import java.io.IOException
import io.movinetedge.bundle.Bundle as ModelBundle

/** The golden stream as a film. */
class GoldenFilm : FrameSource {
    val bundle = ModelBundle(Fixtures.motion)
    val golden = readGolden(bundle)
    private val frame = golden.frame()
    private var step = 0
    var isClosed = false

    override fun next(): TimedFrame? {
        check(!isClosed)
        if (step == FRAMES) return null
        golden.show(frame, step)
        return TimedFrame(frame, (step++ * 1e9 / bundle.manifest.preprocessing.frameRate).toLong())
    }

    override fun close() {
        isClosed = true
    }
}

/** A film in place of the camera. */
@RunWith(RobolectricTestRunner::class)
class VideoTest {
    private val controller = Robolectric.buildActivity(VideoActivity::class.java)
    private val film = GoldenFilm()

    private fun VideoActivity.waitForEnd() =
        waitUntil("the film ends") { findViewById<View>(R.id.ended).isThere }

    private fun VideoActivity.picture(): Bitmap? =
        (findViewById<ImageView>(R.id.picture).drawable as? BitmapDrawable)?.bitmap

    @Test
    fun `a film is run to its end, and shown`() {
        val screen = controller.setup().get()
        assertTrue(screen.findViewById<View>(R.id.no_video).isThere)
        waitUntil("the model is loaded") { screen.text(R.id.rate).isNotEmpty() }
        screen.play { film }
        screen.waitForEnd()
        assertTrue(film.golden.wanted(film.bundle) in screen.texts)
        assertTrue(screen.text(R.id.frames).startsWith("Frames: $FRAMES seen, 0 missed"))
        assertNotNull(screen.picture())
        assertTrue(film.isClosed)
    }

    @Test
    fun `a film goes on while the phone is turned`() {
        val screen = controller.setup().get()
        waitUntil("the model is loaded") { screen.text(R.id.rate).isNotEmpty() }
        screen.play { film }
        waitUntil("it plays") { screen.picture() != null }
        val pipeline = screen.pipeline
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        assertSame(pipeline, controller.get().pipeline)
        controller.get().waitForEnd()
    }

    @Test
    fun `leaving stops it`() {
        val screen = controller.setup().get()
        screen.play { film }
        waitUntil("it plays") { screen.picture() != null }
        controller.pause().stop().destroy()
        waitUntil("it is closed") { film.isClosed }
    }

    @Test
    fun `a file is asked for, and asked for again when it cannot be read`() {
        val screen = controller.setup().get()
        screen.press(R.string.choose_video)
        val asked = shadowOf(screen).nextStartedActivityForResult
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, asked.intent.action)
        assertEquals("video/*", asked.intent.type)
        val nothing = Uri.parse("content://films/none")
        shadowOf(screen).receiveResult(asked.intent, Activity.RESULT_OK, Intent().setData(nothing))
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_video_unreadable, Way.CHOOSE_VIDEO)
        screen.press(R.string.way_choose_video)
        assertNotNull(shadowOf(screen).nextStartedActivityForResult)
        val saved = Bundle()
        controller
            .pause()
            .stop()
            .saveInstanceState(saved)
            .destroy()
        Robolectric.buildActivity(VideoActivity::class.java).use { again ->
            again.setup(saved)
            assertTrue("the file is remembered", again.get().findViewById<View>(R.id.play_again).isEnabled)
        }
    }

    @Test
    fun `a film that breaks off is said`() {
        val screen = controller.setup().get()
        screen.play {
            object : FrameSource {
                override fun next(): TimedFrame? = throw IOException("a broken block")

                override fun close() = Unit
            }
        }
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_video_unreadable, Way.CHOOSE_VIDEO)
        assertEquals("a broken block", screen.text(R.id.trouble_detail))
    }
}
