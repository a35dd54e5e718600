package io.movinetedge.app.live

import android.Manifest
import android.content.pm.PackageManager
import android.graphics.Matrix
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraManager
import android.media.Image
import android.os.Bundle
import android.view.Surface
import android.view.TextureView
import android.view.View
import android.view.WindowManager
import io.movinetedge.app.R
import io.movinetedge.app.Setting
import io.movinetedge.app.Trouble
import io.movinetedge.app.Way
import io.movinetedge.app.app
import io.movinetedge.app.ui.Screen
import io.movinetedge.app.ui.SettingPanel
import io.movinetedge.app.ui.StreamPanel
import io.movinetedge.app.ui.Tab

private const val ASK = 1
private const val ASKED = "asked"
private const val FRONT = "front"
private const val QUARTER = 90

/** The camera, classified as it films. */
class LiveActivity :
    Screen(Tab.LIVE, R.layout.live),
    PipelineListener,
    TextureView.SurfaceTextureListener {
    private lateinit var preview: TextureView
    private lateinit var stream: StreamPanel
    private lateinit var chosen: SettingPanel
    private lateinit var camera: Camera
    private lateinit var thermal: Thermal
    private var optics: Optics? = null

    @Volatile private var turned = 0
    private var hasAsked = false
    private var running: Pair<String?, Setting>? = null

    lateinit var pipeline: Pipeline
        private set
    lateinit var machine: CameraMachine
        private set

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val kept = lastNonConfigurationInstance as? Kept
        pipeline = kept?.pipeline ?: Pipeline(app.engines, cacheDir)
        running = kept?.running
        hasAsked = savedInstanceState?.getBoolean(ASKED) ?: false
        preview = findViewById(R.id.preview)
        stream = StreamPanel(findViewById(R.id.content))
        chosen = SettingPanel(findViewById(R.id.content), app.engines.map { it.name }, ::use)
        thermal = Thermal(this, stream::showThermal)
        makeCamera(savedInstanceState?.getBoolean(FRONT) ?: false)
        preview.surfaceTextureListener = this
        findViewById<View>(R.id.turn_around).setOnClickListener { machine.turnAround() }
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    private fun makeCamera(front: Boolean) {
        camera =
            Camera(
                getSystemService(CameraManager::class.java),
                preview::getSurfaceTexture,
                pipeline.handler,
                ::see,
                ::adjust,
            )
        machine = CameraMachine(camera, front, ::cameraIs)
        camera.machine = machine
        findViewById<View>(R.id.turn_around).visibility = if (camera.hasBoth) View.VISIBLE else View.GONE
    }

    override fun onResume() {
        super.onResume()
        pipeline.listener = this
        chosen.show(app.setting)
        thermal.start()
        if (running != app.settings.bundle to app.setting) restart() else pipeline.restart()
        val isAllowed = isAllowed()
        machine.resume(isAllowed)
        if (isAllowed) {
            if (trouble == Trouble.CAMERA_REFUSED || trouble == Trouble.CAMERA_BLOCKED) clearTrouble()
        } else if (!hasAsked) {
            ask()
        } else {
            showRefusal()
        }
    }

    override fun onPause() {
        machine.pause()
        thermal.stop()
        pipeline.listener = null
        super.onPause()
    }

    override fun onDestroy() {
        if (!isChangingConfigurations) pipeline.close()
        super.onDestroy()
    }

    @Deprecated("its replacement is not among the framework's classes")
    override fun onRetainNonConfigurationInstance(): Any = Kept(pipeline, running)

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putBoolean(ASKED, hasAsked)
        outState.putBoolean(FRONT, machine.front)
    }

    override fun onRequestPermissionsResult(
        requestCode: Int,
        permissions: Array<String>,
        grantResults: IntArray,
    ) {
        if (requestCode != ASK || grantResults.isEmpty()) return
        if (isAllowed()) {
            clearTrouble()
            machine.resume(true)
        } else {
            showRefusal()
        }
    }

    override fun restart() {
        super.restart()
        running = app.settings.bundle to app.setting
        chosen.show(app.setting)
        val id = app.settings.bundle
        val store = app.bundles
        pipeline.open(app.setting) { store.path(id) }
        machine.retry()
    }

    override fun go(way: Way) {
        if (way == Way.ALLOW_CAMERA) ask() else super.go(way)
    }

    override fun onOpened(opened: Opened) {
        chosen.show(app.setting, opened.precisions)
        stream.show(opened.snapshot)
    }

    override fun onAnswer(snapshot: Snapshot) = stream.show(snapshot)

    override fun onFailed(error: Exception) = show(error)

    private fun use(setting: Setting) {
        app.setting = setting
        restart()
    }

    private fun isAllowed() =
        checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun ask() {
        hasAsked = true
        requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK)
    }

    private fun showRefusal() {
        val mayAsk = shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)
        show(if (mayAsk) Trouble.CAMERA_REFUSED else Trouble.CAMERA_BLOCKED)
    }

    private fun cameraIs(state: CameraMachine.State) {
        if (state == CameraMachine.State.STREAMING) pipeline.restart()
        machine.trouble?.let { show(it) }
    }

    /** On the pipeline's thread. */
    private fun see(
        image: Image,
        optics: Optics,
    ) {
        val rotation = uprightRotation(optics.sensor, turned, optics.front)
        pipeline.take(frameOf(image, rotation), image.timestamp)
    }

    /** By how many degrees the display is turned. */
    private fun displayTurned(): Int =
        when (preview.display?.rotation) {
            Surface.ROTATION_90 -> QUARTER
            Surface.ROTATION_180 -> 2 * QUARTER
            Surface.ROTATION_270 -> 3 * QUARTER
            else -> 0
        }

    private fun adjust(optics: Optics) {
        this.optics = optics
        place()
    }

    private fun place() {
        turned = displayTurned()
        val camera = optics ?: return
        val view = Side(preview.width, preview.height)
        if (view.short == 0) return
        val placed = placePreview(view, camera.size, camera.sensor, turned)
        val centreX = view.width / 2f
        val centreY = view.height / 2f
        val matrix = Matrix()
        matrix.setScale(placed.scaleX, placed.scaleY, centreX, centreY)
        matrix.postRotate(placed.degrees, centreX, centreY)
        preview.setTransform(matrix)
    }

    override fun onSurfaceTextureAvailable(
        surface: SurfaceTexture,
        width: Int,
        height: Int,
    ) = machine.surface(true)

    override fun onSurfaceTextureSizeChanged(
        surface: SurfaceTexture,
        width: Int,
        height: Int,
    ) = place()

    override fun onSurfaceTextureDestroyed(surface: SurfaceTexture): Boolean {
        machine.surface(false)
        return true
    }

    override fun onSurfaceTextureUpdated(surface: SurfaceTexture) {
        // Upside down is not another configuration.
        if (displayTurned() != turned) place()
    }

    private class Kept(
        val pipeline: Pipeline,
        val running: Pair<String?, Setting>?,
    )
}
