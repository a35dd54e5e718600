package io.movinetedge.app.live

import android.Manifest
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.os.Bundle
import android.os.Handler
import android.os.PowerManager
import android.provider.Settings
import android.util.Size
import android.view.TextureView
import android.view.View
import android.widget.Spinner
import io.movinetedge.app.FRAMES
import io.movinetedge.app.Fixtures
import io.movinetedge.app.R
import io.movinetedge.app.Setting
import io.movinetedge.app.TestApp
import io.movinetedge.app.Way
import io.movinetedge.app.app
import io.movinetedge.app.assertSays
import io.movinetedge.app.live.CameraMachine.State
import io.movinetedge.app.press
import io.movinetedge.app.text
import io.movinetedge.app.texts
import io.movinetedge.app.ui.Tab
import io.movinetedge.app.waitUntil
import io.movinetedge.app.wanted
import io.movinetedge.check.readGolden
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.annotation.RealObject
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.ShadowCameraManager
import org.robolectric.shadows.ShadowImageReader
import org.robolectric.shadows.StreamConfigurationMapBuilder
import org.robolectric.util.ReflectionHelpers
import io.movinetedge.bundle.Bundle as ModelBundle

private const val CAMERA = Manifest.permission.CAMERA

/** The camera's end of an image reader: a test films. */
@Implements(ImageReader::class)
class FilmedReader : ShadowImageReader() {
    @RealObject private lateinit var reader: ImageReader

    @Volatile private var image: Image? = null

    @Implementation
    protected fun acquireLatestImage(): Image? = image

    @Implementation
    protected fun setOnImageAvailableListener(
        listener: ImageReader.OnImageAvailableListener,
        handler: Handler,
    ) {
        film = { shown ->
            handler.post {
                image = shown
                listener.onImageAvailable(reader)
            }
        }
    }

    companion object {
        /** Of the newest reader. */
        lateinit var film: (Image) -> Unit
    }
}

/** The camera's screen: what it needs, what can be taken from it, and what it does then. */
@RunWith(RobolectricTestRunner::class)
class LiveTest {
    private val app = RuntimeEnvironment.getApplication() as TestApp
    private val cameras = app.getSystemService(Context.CAMERA_SERVICE) as CameraManager

    @Before
    fun phone() {
        shadowOf(app).grantPermissions(CAMERA)
        addCamera("0", CameraCharacteristics.LENS_FACING_BACK, 90)
        addCamera("1", CameraCharacteristics.LENS_FACING_FRONT, 270)
    }

    private fun addCamera(
        id: String,
        facing: Int,
        orientation: Int,
    ) {
        val about = ShadowCameraCharacteristics.newCameraCharacteristics()
        val sizes =
            StreamConfigurationMapBuilder
                .newBuilder()
                .addOutputSize(ImageFormat.YUV_420_888, Size(640, 480))
                .addOutputSize(ImageFormat.YUV_420_888, Size(1920, 1080))
                .build()
        shadowOf(about).set(CameraCharacteristics.LENS_FACING, facing)
        shadowOf(about).set(CameraCharacteristics.SENSOR_ORIENTATION, orientation)
        shadowOf(about).set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, sizes)
        shadowOf(cameras).addCamera(id, about)
    }

    private val controller = Robolectric.buildActivity(LiveActivity::class.java)

    /** Robolectric's texture views get no surface of their own. */
    private fun ActivityController<LiveActivity>.giveSurface(): LiveActivity {
        val screen = get()
        val surface = SurfaceTexture(0)
        screen.findViewById<TextureView>(R.id.preview).setSurfaceTexture(surface)
        screen.onSurfaceTextureAvailable(surface, 640, 480)
        return screen
    }

    private fun opened(): LiveActivity {
        controller.setup()
        return controller.giveSurface()
    }

    private fun LiveActivity.waitForCamera() =
        waitUntil("the camera streams") { machine.state == State.STREAMING }

    private fun LiveActivity.waitForModel() =
        waitUntil("the model is loaded") { text(R.id.rate).isNotEmpty() }

    /** Devices of the camera service that were opened and not closed. */
    private fun held(): Int {
        val service = ShadowCameraManager::class.java
        val all = ReflectionHelpers.getStaticField<Set<CameraDevice>>(service, "createdCameras")
        return all.count { device ->
            try {
                device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                true
            } catch (_: IllegalStateException) {
                false
            }
        }
    }

    private fun push(
        name: String,
        bundle: ByteArray,
    ) {
        app.getExternalFilesDir("bundles")!!.resolve("$name.zip").writeBytes(bundle)
        app.settings.bundle = "pushed/$name.zip"
    }

    /** Show the golden stream as if the camera had filmed it. */
    private fun LiveActivity.film() {
        val bundle = ModelBundle(Fixtures.motion)
        val golden = readGolden(bundle)
        val frame = golden.frame()
        val interval = (1e9 / bundle.manifest.preprocessing.frameRate).toLong()
        pipeline.handler.post {
            for (step in 0 until FRAMES) {
                golden.show(frame, step)
                pipeline.take(frame, step * interval)
            }
        }
        val wanted = golden.wanted(bundle)
        waitUntil("$wanted is shown") { wanted in texts && text(R.id.frames).startsWith("Frames: $FRAMES ") }
    }

    @Test
    fun `it classifies what the camera films`() {
        val screen = opened()
        screen.waitForCamera()
        screen.film()
        assertTrue(screen.texts.toString(), screen.text(R.id.latency).endsWith("(p95)"))
        assertEquals(View.GONE, screen.findViewById<View>(R.id.trouble).visibility)
        controller.pause().stop().destroy()
        assertEquals(0, held())
    }

    /** What is shown after these images of the camera. */
    private fun LiveActivity.filmed(images: List<GradientImage>): Snapshot {
        var last: Snapshot? = null
        pipeline.listener =
            object : PipelineListener by this {
                override fun onAnswer(snapshot: Snapshot) {
                    last = snapshot
                }
            }
        last = null // a new listener is told of the last answer before it
        images.forEach { FilmedReader.film(it) }
        waitUntil("all are seen") { last?.run { taken + dropped } == images.size.toLong() }
        assertTrue("an image is still held", images.all { it.isClosed })
        return last!!
    }

    /** What a model answers to the same, laid out by hand. */
    private fun answered(
        images: List<GradientImage>,
        rotation: Int,
    ): List<Score> =
        StreamSession(app.engines, app.cacheDir).use { session ->
            session.open(Fixtures.motion, app.setting)
            images.mapNotNull { session.take(it.byHand(rotation), it.timestamp) }.last().top
        }

    @Test
    @Config(shadows = [FilmedReader::class])
    fun `an image of the camera is what the model sees, upright, at its time`() {
        fun image(
            pixelStride: Int,
            millis: Long,
        ) = GradientImage(Side(640, 480), pixelStride, 32, nanos = millis * 1_000_000)

        val screen = opened()
        for (rotation in listOf(90, 270)) {
            screen.waitForCamera()
            screen.waitForModel()
            // the second one comes before its turn
            val images = listOf(image(2, 0), image(1, 10), image(2, 1000))
            val snapshot = screen.filmed(images)
            assertEquals(2L to 1L, snapshot.taken to snapshot.dropped)
            assertEquals(answered(images, rotation), snapshot.top)
            assertNotEquals(answered(images, rotation - 90), snapshot.top)
            screen.findViewById<View>(R.id.turn_around).performClick()
        }
    }

    @Test
    fun `the camera is held only in front`() {
        val screen = opened()
        screen.waitForCamera()
        assertEquals(1, held())
        repeat(3) {
            controller.pause()
            assertEquals(State.CLOSED, screen.machine.state)
            assertEquals(0, held())
            controller.resume()
            screen.waitForCamera()
            assertEquals(1, held())
        }
    }

    @Test
    fun `turning the phone keeps the engine and leaks no camera`() {
        val screen = opened()
        screen.waitForCamera()
        screen.film()
        val pipeline = screen.pipeline
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        assertEquals(0, held())
        val turned = controller.giveSurface()
        assertNotSame(screen, turned)
        assertSame(pipeline, turned.pipeline)
        turned.waitForCamera()
        assertEquals(1, held())
        turned.film()
    }

    @Test
    fun `the other camera is one press away, and still chosen after the app was ended`() {
        val screen = opened()
        screen.waitForCamera()
        screen.findViewById<View>(R.id.turn_around).performClick()
        screen.waitForCamera()
        assertTrue(screen.machine.front)
        assertEquals(1, held())
        val saved = Bundle()
        controller
            .pause()
            .stop()
            .saveInstanceState(saved)
            .destroy()
        Robolectric.buildActivity(LiveActivity::class.java).use { again ->
            again
                .create(saved)
                .start()
                .restoreInstanceState(saved)
                .resume()
                .visible()
            assertTrue(again.get().machine.front)
        }
    }

    @Test
    fun `without a second camera there is nothing to turn around`() {
        shadowOf(cameras).removeCamera("1")
        assertEquals(View.GONE, opened().findViewById<View>(R.id.turn_around).visibility)
    }

    @Test
    fun `permission refused`() {
        shadowOf(app).denyPermissions(CAMERA)
        shadowOf(app.packageManager).setShouldShowRequestPermissionRationale(CAMERA, true)
        val screen = opened()
        assertArrayEquals(arrayOf(CAMERA), shadowOf(screen).lastRequestedPermission.requestedPermissions)
        answer(screen, PackageManager.PERMISSION_DENIED)
        screen.assertSays(R.string.trouble_camera_refused, Way.ALLOW_CAMERA, Way.USE_VIDEO)
        screen.press(R.string.way_allow_camera)
        shadowOf(app).grantPermissions(CAMERA)
        answer(screen, PackageManager.PERMISSION_GRANTED)
        screen.waitForCamera()
        assertEquals(View.GONE, screen.findViewById<View>(R.id.trouble).visibility)
    }

    @Test
    fun `permission refused for good`() {
        shadowOf(app).denyPermissions(CAMERA)
        val screen = opened()
        answer(screen, PackageManager.PERMISSION_DENIED)
        screen.assertSays(R.string.trouble_camera_blocked, Way.OPEN_SETTINGS, Way.USE_VIDEO)
        screen.press(R.string.way_open_settings)
        assertEquals(
            Settings.ACTION_APPLICATION_DETAILS_SETTINGS,
            shadowOf(screen).nextStartedActivity.action,
        )
        controller.pause()
        shadowOf(app).grantPermissions(CAMERA)
        controller.resume()
        screen.waitForCamera()
    }

    @Test
    fun `permission taken back`() {
        val screen = opened()
        screen.waitForCamera()
        controller.pause()
        shadowOf(app).denyPermissions(CAMERA)
        controller.resume()
        assertEquals(0, held())
        answer(screen, PackageManager.PERMISSION_DENIED)
        screen.assertSays(R.string.trouble_camera_blocked, Way.OPEN_SETTINGS, Way.USE_VIDEO)
    }

    private fun answer(
        screen: LiveActivity,
        result: Int,
    ) = screen.onRequestPermissionsResult(1, arrayOf(CAMERA), intArrayOf(result))

    @Test
    fun `no camera`() {
        listOf("0", "1").forEach { shadowOf(cameras).removeCamera(it) }
        val screen = opened()
        screen.assertSays(R.string.trouble_no_camera, Way.USE_VIDEO)
        screen.press(R.string.way_use_video)
        assertEquals(Tab.VIDEO.intent(screen).component, shadowOf(screen).nextStartedActivity.component)
    }

    @Test
    fun `camera taken away in mid-stream`() {
        val screen = opened()
        screen.waitForCamera()
        screen.waitForModel()
        shadowOf(cameras).triggerDisconnect()
        waitUntil("it is noticed") { screen.machine.state == State.FAILED }
        screen.assertSays(R.string.trouble_camera_taken, Way.TRY_AGAIN, Way.USE_VIDEO)
        assertEquals(0, held())
        screen.press(R.string.way_try_again)
        screen.waitForCamera()
        screen.film()
    }

    private fun assertBad(
        sentence: Int,
        bundle: ByteArray,
    ) {
        push("bad", bundle)
        val screen = opened()
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(sentence, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT)
        screen.press(R.string.way_use_default)
        screen.waitForModel()
        screen.film()
    }

    @Test
    fun `corrupt bundle`() = assertBad(R.string.trouble_bundle_damaged, ByteArray(1000) { 7 })

    @Test
    fun `bundle that is too new`() =
        assertBad(
            R.string.trouble_bundle_newer,
            Fixtures.newer(3),
        )

    @Test
    fun `bundle whose model is not the manifest's`() =
        assertBad(
            R.string.trouble_bundle_changed,
            Fixtures.zipped(Fixtures.bundle("arnet")) { name, content ->
                if (name.endsWith(".tflite")) content.also { it[99] = (it[99] + 1).toByte() } else content
            },
        )

    @Test
    fun `bundle that is gone`() {
        app.settings.bundle = "imported/gone.zip"
        val screen = opened()
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_bundle_absent, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT)
        screen.press(R.string.way_choose_bundle)
        assertEquals(Tab.BUNDLES.intent(screen).component, shadowOf(screen).nextStartedActivity.component)
    }

    @Test
    fun `delegate missing`() {
        app.setting = Setting(delegate = "nnapi")
        val screen = opened()
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_no_delegate, Way.USE_CPU)
        screen.press(R.string.way_use_cpu)
        assertEquals("xnnpack", app.setting.delegate)
        screen.waitForModel()
        screen.film()
    }

    @Test
    fun `delegate that cannot take the model`() {
        app.setting = Setting(delegate = "gpu")
        val screen = opened()
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_refused, Way.USE_CPU, Way.CHOOSE_BUNDLE)
        assertTrue("no such chip" in screen.text(R.id.trouble_detail))
    }

    @Test
    fun `precision that the bundle lacks`() {
        app.setting = Setting(precision = "fp16")
        val screen = opened()
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(
            R.string.trouble_no_file,
            Way.OTHER_PRECISION,
            Way.CHOOSE_BUNDLE,
            Way.USE_ONNX_RUNTIME,
        )
        screen.press(R.string.way_other_precision)
        assertEquals(null, app.setting.precision)
        screen.waitForModel()
        screen.film()
    }

    @Test
    fun `out of space`() {
        val blocked = app.filesDir.resolve("built-in").also { it.writeText("in the way") }
        val screen = opened()
        waitUntil("it is said") { screen.trouble != null }
        screen.assertSays(R.string.trouble_no_space, Way.FREE_SPACE, Way.TRY_AGAIN)
        blocked.delete()
        screen.press(R.string.way_try_again)
        screen.waitForModel()
        screen.film()
    }

    @Test
    fun `engine, delegate, threads and precision change while it runs`() {
        val screen = opened()
        screen.waitForModel()
        screen.film()
        for (change in listOf(R.id.delegate to 1, R.id.threads to 1, R.id.precision to 1, R.id.engine to 1)) {
            val before = app.setting
            screen.findViewById<Spinner>(change.first).setSelection(change.second)
            waitUntil("the setting changes") { app.setting != before }
            screen.film()
        }
        assertEquals("onnxruntime", app.setting.engine)
        assertEquals(2, app.setting.threads)
    }

    @Test
    fun `heat is shown`() {
        val screen = opened()
        shadowOf(app.getSystemService(PowerManager::class.java))
            .setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
        waitUntil("it is shown") { "severe" in screen.text(R.id.thermal) }
        controller.pause()
        assertEquals(0, shadowOf(app.getSystemService(PowerManager::class.java)).thermalStatusListeners.size)
    }
}
