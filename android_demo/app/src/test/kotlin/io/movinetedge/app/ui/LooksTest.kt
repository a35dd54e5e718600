package io.movinetedge.app.ui

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Rect
import android.graphics.drawable.BitmapDrawable
import android.os.Bundle
import android.view.TextureView
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import io.movinetedge.app.FRAMES
import io.movinetedge.app.Fixtures
import io.movinetedge.app.R
import io.movinetedge.app.Setting
import io.movinetedge.app.TestApp
import io.movinetedge.app.Trouble
import io.movinetedge.app.all
import io.movinetedge.app.check.CheckActivity
import io.movinetedge.app.isThere
import io.movinetedge.app.live.LiveActivity
import io.movinetedge.app.live.PipelineListener
import io.movinetedge.app.live.Score
import io.movinetedge.app.live.Snapshot
import io.movinetedge.app.live.pictureOf
import io.movinetedge.app.measure.MeasureActivity
import io.movinetedge.app.press
import io.movinetedge.app.root
import io.movinetedge.app.text
import io.movinetedge.app.video.GoldenFilm
import io.movinetedge.app.video.VideoActivity
import io.movinetedge.app.waitUntil
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.android.controller.ActivityController
import java.io.File
import kotlin.math.pow

private const val PHONE = "w411dp-h891dp-port-xhdpi"
private const val TABLET = "w1280dp-h800dp-land-mdpi"
private const val NARROW = "w360dp-h640dp-port-xhdpi"
private const val LOW = "w891dp-h411dp-land-xhdpi"
private const val TEXT = 4.5 // WCAG AA
private const val SHAPE = 3.0
private const val LONG = "playing the accordion on a unicycle, Donaudampfschifffahrtsgesellschaftskapitän"

/** Much to show, in long words and large numbers. */
private val FULL =
    Snapshot(
        List(5) { Score("$LONG $it", 1f) },
        p50 = 12345.6,
        p95 = 123456.7,
        frameRate = 123.4,
        wantedRate = 123.4,
        taken = 1234567890,
        dropped = 1234567890,
        missed = 1234567890,
        decision = LONG,
    )

/** What is seen: contrast, nothing cut off, and pictures of every screen in target/screenshots. */
@RunWith(RobolectricTestRunner::class)
class LooksTest {
    private val app get() = RuntimeEnvironment.getApplication() as TestApp

    private fun build(tab: Tab): ActivityController<out Screen> {
        @Suppress("UNCHECKED_CAST")
        val type = Class.forName(tab.intent(app).component!!.className) as Class<out Screen>
        return Robolectric.buildActivity(type)
    }

    // Contrast.

    private fun luminance(colour: Int): Double {
        fun linear(level: Int): Double {
            val share = level / 255.0
            return if (share <= 0.04045) share / 12.92 else ((share + 0.055) / 1.055).pow(2.4)
        }
        val (red, green, blue) = listOf(colour shr 16, colour shr 8, colour).map { linear(it and 0xFF) }
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    private fun contrast(
        a: Int,
        b: Int,
    ): Double {
        val (dark, light) = listOf(luminance(a), luminance(b)).sorted()
        return (light + 0.05) / (dark + 0.05)
    }

    @Test
    fun `text can be told from what is behind it, in both themes`() {
        val behind =
            mapOf(
                R.color.text to listOf(R.color.background, R.color.surface),
                R.color.text_quiet to listOf(R.color.background, R.color.surface),
                R.color.accent to listOf(R.color.background, R.color.surface),
                R.color.pass to listOf(R.color.surface),
                R.color.fail to listOf(R.color.surface),
                R.color.on_accent to listOf(R.color.accent),
                R.color.on_trouble to listOf(R.color.trouble),
                R.color.on_picture to listOf(R.color.picture),
            )
        for (theme in listOf("+notnight", "+night")) {
            RuntimeEnvironment.setQualifiers(theme)
            for ((text, grounds) in behind) {
                for (ground in grounds) {
                    val found = contrast(app.getColor(text), app.getColor(ground))
                    val names = listOf(text, ground).map(app.resources::getResourceEntryName)
                    assertTrue("$theme $names: $found", found >= TEXT)
                }
            }
            assertTrue(theme, contrast(app.getColor(R.color.accent), app.getColor(R.color.track)) >= SHAPE)
        }
    }

    // Nothing cut off.

    private fun cutOff(view: TextView): String? {
        val layout = view.layout ?: return "not laid out"
        val room = view.height - view.compoundPaddingTop - view.compoundPaddingBottom
        val width = view.width - view.compoundPaddingLeft - view.compoundPaddingRight
        val lines = 0 until layout.lineCount
        val longest = lines.maxOf(layout::getLineMax) // without spaces at their ends
        return when {
            layout.height > room -> "too low: ${layout.height} in $room"
            lines.any { layout.getEllipsisCount(it) > 0 } -> "shortened"
            longest > width + 1 -> "too narrow: $longest in $width"
            else -> null
        }
    }

    private fun assertWhole(
        screen: Activity,
        how: String,
    ) {
        for (view in screen.root.all().filterIsInstance<TextView>()) {
            if (!view.isThere || view.text.isEmpty()) continue
            val problem = cutOff(view)
            assertTrue("$how: '${view.text}' is $problem", problem == null)
        }
    }

    /** In screens and sizes of text that leave little room. */
    private fun whereItIsNarrow(
        vararg looks: Pair<String, Float>,
        work: (String) -> Unit,
    ) {
        for ((size, scale) in looks) {
            for (language in listOf("en", "ko")) {
                RuntimeEnvironment.setQualifiers("$language-$size")
                RuntimeEnvironment.setFontScale(scale)
                work("$size $language $scale")
            }
        }
    }

    @Test
    fun `no text is cut off, in any language and size`() =
        whereItIsNarrow(NARROW to 1f, NARROW to 2f, LOW to 2f, TABLET to 1.3f) { look ->
            for (tab in Tab.entries) assertWhole(tab, "$tab $look")
        }

    /** A screen that [fill] fills, or that was kept when the app was ended. */
    private fun assertFilledWhole(
        tab: Tab,
        look: String,
        kept: Bundle? = null,
        fill: (Screen) -> Unit = {},
    ) = build(tab).use { controller ->
        val screen = (kept?.let(controller::setup) ?: controller.setup()).get()
        fill(screen)
        waitUntil("it is laid out") { screen.root.isLaidOut && !screen.root.isLayoutRequested }
        assertWhole(screen, "$tab $look, filled")
    }

    /** What a screen keeps when the app is ended, once [isDone]. */
    private fun keptOf(
        tab: Tab,
        start: Int,
        isDone: (Screen) -> Boolean,
    ) = Bundle().also { kept ->
        build(tab).use { controller ->
            val screen = controller.setup().get()
            screen.press(start)
            waitUntil("all is done") { isDone(screen) }
            controller.pause().stop().saveInstanceState(kept)
        }
    }

    @Test
    fun `no text is cut off where screens are full`() {
        app.setting = Setting("onnxruntime", "none", 1, "int8")
        val pushed = app.getExternalFilesDir("bundles")!!.resolve("arnet $LONG")
        Fixtures.bundle("arnet").copyRecursively(pushed)
        val checked = keptOf(Tab.CHECK, R.string.run_checks) { it.areChecksDone() }
        val measured = keptOf(Tab.MEASURE, R.string.start) { it.findViewById<View>(R.id.result).isThere }
        app.settings.bundle = "pushed/${pushed.name}"
        whereItIsNarrow(NARROW to 1f, NARROW to 2f, LOW to 2f) { look ->
            for (tab in listOf(Tab.LIVE, Tab.VIDEO)) {
                assertFilledWhole(tab, look) { (it as PipelineListener).onAnswer(FULL) }
            }
            assertFilledWhole(Tab.BUNDLES, look) { screen ->
                waitUntil("it is described") { screen.findViewById<View>(R.id.about).isThere }
            }
            assertFilledWhole(Tab.CHECK, look, checked) { assertTrue(it.areChecksDone()) }
            assertFilledWhole(Tab.MEASURE, look, measured) { screen ->
                assertTrue(screen.findViewById<View>(R.id.result).isThere)
            }
        }
    }

    private fun Activity.areChecksDone() =
        findViewById<ViewGroup>(R.id.rows).childCount > 0 &&
            text(R.id.run_checks) == getString(R.string.run_checks)

    private fun assertWhole(
        tab: Tab,
        how: String,
    ) {
        build(tab).use { controller ->
            val screen = controller.setup().get()
            waitUntil("it is laid out") { screen.root.isLaidOut && !screen.root.isLayoutRequested }
            assertWhole(screen, how)
            // It is one panel on all screens.
            val troubles = if (tab == Tab.LIVE) Trouble.entries else Trouble.entries.takeLast(1)
            for (trouble in troubles) {
                screen.show(trouble, "step.tflite in motion-a0-stream was changed or damaged")
                waitUntil("it is laid out") { !screen.root.isLayoutRequested }
                assertWhole(screen, "$how $trouble")
            }
        }
    }

    // Pictures.

    private fun draw(
        screen: Activity,
        name: String,
    ) {
        // Without a camera its view would be white.
        screen.root
            .all()
            .filterIsInstance<TextureView>()
            .forEach { it.visibility = View.INVISIBLE }
        waitUntil("it is laid out") { screen.root.isLaidOut && !screen.root.isLayoutRequested }
        val whole = screen.window.decorView
        val picture = Bitmap.createBitmap(whole.width, whole.height, Bitmap.Config.ARGB_8888)
        whole.draw(Canvas(picture))
        val colours = IntArray(picture.width * picture.height)
        picture.getPixels(colours, 0, picture.width, 0, 0, picture.width, picture.height)
        assertTrue("$name is empty", colours.toSet().size > 20)
        val folder = System.getProperty("screenshots").orEmpty().ifEmpty { return }
        File(folder).mkdirs()
        File(folder, "$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }

    private fun inEveryLook(work: (String) -> Unit) {
        for ((device, size) in listOf("phone" to PHONE, "tablet" to TABLET)) {
            for ((theme, night) in listOf("light" to "notnight", "dark" to "night")) {
                val (before, after) = size.split(Regex("(?<=port|land)-"))
                RuntimeEnvironment.setQualifiers("en-$before-$night-$after")
                work("$device-$theme")
            }
        }
    }

    /** The picture of a film in the place of the camera's, which a computer has not. */
    private fun LiveActivity.filmed() {
        val film = GoldenFilm()
        val frame = film.golden.frame()
        val interval = (1e9 / film.bundle.manifest.preprocessing.frameRate).toLong()
        waitUntil("the model is loaded") { text(R.id.rate).isNotEmpty() }
        pipeline.handler.post {
            for (step in 0 until FRAMES) {
                film.golden.show(frame, step)
                pipeline.take(frame, step * interval)
            }
        }
        waitUntil("all is seen") { text(R.id.frames).startsWith("Frames: $FRAMES ") }
        val place = findViewById<View>(R.id.preview).parent as View
        val whole = Bitmap.createBitmap(place.width, place.height, Bitmap.Config.ARGB_8888)
        val side = minOf(whole.width, whole.height)
        val (left, top) = (whole.width - side) / 2 to (whole.height - side) / 2
        val canvas = Canvas(whole)
        canvas.drawColor(getColor(R.color.picture))
        val square = Rect(left, top, left + side, top + side)
        canvas.drawBitmap(pictureOf(frame, 64), null, square, Paint(Paint.FILTER_BITMAP_FLAG))
        place.background = BitmapDrawable(resources, whole)
    }

    private fun <T : Screen> shown(
        type: Class<T>,
        work: (T) -> Unit,
    ) = Robolectric.buildActivity(type).use { work(it.setup().get()) }

    @Test
    fun `live, with answers`() =
        inEveryLook { look ->
            org.robolectric.Shadows
                .shadowOf(app)
                .grantPermissions(android.Manifest.permission.CAMERA)
            shown(LiveActivity::class.java) { screen ->
                screen.filmed()
                screen.clearTrouble() // there is no camera
                draw(screen, "live-$look")
            }
        }

    @Test
    fun `live, with a delegate that is not there`() =
        inEveryLook { look ->
            app.setting = Setting(delegate = "nnapi", threads = 1)
            shown(LiveActivity::class.java) { screen ->
                waitUntil("it is said") { screen.trouble == Trouble.NO_DELEGATE }
                draw(screen, "trouble-$look")
            }
        }

    @Test
    fun `a film`() =
        inEveryLook { look ->
            shown(VideoActivity::class.java) { screen ->
                waitUntil("the model is loaded") { screen.text(R.id.rate).isNotEmpty() }
                screen.play(::GoldenFilm)
                waitUntil("the film ends") { screen.findViewById<View>(R.id.ended).isThere }
                draw(screen, "video-$look")
            }
        }

    @Test
    fun bundles() =
        inEveryLook { look ->
            val pushed = app.getExternalFilesDir("bundles")!!.resolve("arnet")
            Fixtures.bundle("arnet").copyRecursively(pushed, overwrite = true)
            shown(io.movinetedge.app.bundles.BundlesActivity::class.java) { screen ->
                waitUntil("it is described") { screen.findViewById<View>(R.id.about).isThere }
                draw(screen, "bundles-$look")
            }
        }

    @Test
    fun `checks of real engines`() {
        var done: Bundle? = null
        inEveryLook { look ->
            Robolectric.buildActivity(CheckActivity::class.java).use { controller ->
                val screen = done?.let { controller.setup(it) }?.get() ?: controller.setup().get()
                if (done == null) {
                    screen.press(R.string.run_checks)
                    waitUntil("all are done") { screen.areChecksDone() }
                }
                draw(screen, "check-$look")
                if (done == null) done = Bundle().also { controller.saveInstanceState(it) }
            }
        }
    }

    @Test
    fun `a measured bundle`() =
        inEveryLook { look ->
            app.setting = Setting("onnxruntime", "none", 1, "int8")
            shown(MeasureActivity::class.java) { screen ->
                screen.press(R.string.start)
                waitUntil("it is measured") { screen.findViewById<View>(R.id.result).isThere }
                draw(screen, "benchmark-$look")
            }
        }
}
