package io.movinetedge.app.video

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.net.Uri
import android.view.View
import android.view.WindowManager
import android.widget.ImageView
import io.movinetedge.app.R
import io.movinetedge.app.Setting
import io.movinetedge.app.Trouble
import io.movinetedge.app.Way
import io.movinetedge.app.app
import io.movinetedge.app.live.Opened
import io.movinetedge.app.live.Pipeline
import io.movinetedge.app.live.PipelineListener
import io.movinetedge.app.live.Snapshot
import io.movinetedge.app.live.Thermal
import io.movinetedge.app.ui.Screen
import io.movinetedge.app.ui.SettingPanel
import io.movinetedge.app.ui.StreamPanel
import io.movinetedge.app.ui.Tab
import java.io.IOException

private const val CHOOSE = 1
private const val FILE = "file"

/** A video file in place of the camera. */
class VideoActivity :
    Screen(Tab.VIDEO, R.layout.video),
    PipelineListener,
    PlayerListener {
    private lateinit var stream: StreamPanel
    private lateinit var chosen: SettingPanel
    private lateinit var thermal: Thermal
    private var kept = Kept()

    /** The stream that the video runs through. */
    lateinit var pipeline: Pipeline
        private set

    override fun onCreate(savedInstanceState: android.os.Bundle?) {
        super.onCreate(savedInstanceState)
        (lastNonConfigurationInstance as? Kept)?.let { kept = it }
        pipeline = kept.pipeline ?: Pipeline(app.engines, cacheDir).also { kept.pipeline = it }
        stream = StreamPanel(findViewById(R.id.content))
        chosen = SettingPanel(findViewById(R.id.content), app.engines.map { it.name }, ::use)
        thermal = Thermal(this, stream::showThermal)
        findViewById<View>(R.id.choose_video).setOnClickListener { choose() }
        findViewById<View>(R.id.play_again).setOnClickListener { kept.file?.let(::play) }
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        if (kept.file == null) kept.file = savedInstanceState?.getString(FILE)?.let(Uri::parse)
        showFile()
    }

    override fun onStart() {
        super.onStart()
        pipeline.listener = this
        thermal.start()
        chosen.show(app.setting)
        if (kept.running != app.settings.bundle to app.setting) restart()
        val file = kept.file
        if (kept.player == null && file != null) play(file)
        kept.player?.listener = this
    }

    override fun onStop() {
        pipeline.listener = null
        kept.player?.listener = null
        thermal.stop()
        if (!isChangingConfigurations) {
            kept.player?.stop()
            kept.player = null
        }
        super.onStop()
    }

    override fun onDestroy() {
        if (!isChangingConfigurations) pipeline.close()
        super.onDestroy()
    }

    @Deprecated("its replacement is not among the framework's classes")
    override fun onRetainNonConfigurationInstance(): Any = kept

    override fun onSaveInstanceState(outState: android.os.Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(FILE, kept.file?.toString())
    }

    @Deprecated("its replacement is not among the framework's classes")
    override fun onActivityResult(
        requestCode: Int,
        resultCode: Int,
        data: Intent?,
    ) {
        val file = data?.data
        if (requestCode != CHOOSE || resultCode != Activity.RESULT_OK || file == null) return
        keepAccess(file, data.flags)
        clearTrouble()
        play(file)
    }

    override fun restart() {
        super.restart()
        kept.running = app.settings.bundle to app.setting
        chosen.show(app.setting)
        val id = app.settings.bundle
        val store = app.bundles
        pipeline.open(app.setting) { store.path(id) }
    }

    override fun isOpen(way: Way): Boolean = way != Way.USE_VIDEO && super.isOpen(way)

    override fun go(way: Way) {
        if (way == Way.CHOOSE_VIDEO) choose() else super.go(way)
    }

    /** Show a film in place of the one that is shown. */
    fun play(source: () -> FrameSource) {
        kept.player?.stop()
        val player = Player(pipeline, source)
        kept.player = player
        player.listener = this
        player.play()
        findViewById<View>(R.id.ended).visibility = View.GONE
    }

    private fun play(file: Uri) {
        kept.file = file
        showFile()
        val context = applicationContext
        play { MediaSource(context, file) }
    }

    override fun onOpened(opened: Opened) {
        chosen.show(app.setting, opened.precisions)
        stream.show(opened.snapshot)
    }

    override fun onAnswer(snapshot: Snapshot) = stream.show(snapshot)

    override fun onFailed(error: Exception) = show(error)

    override fun onPicture(picture: Bitmap) {
        findViewById<View>(R.id.no_video).visibility = View.GONE
        findViewById<ImageView>(R.id.picture).setImageBitmap(picture)
    }

    override fun onEnd() {
        findViewById<View>(R.id.ended).visibility = View.VISIBLE
    }

    override fun onUnreadable(error: IOException) = show(Trouble.VIDEO_UNREADABLE, error.message)

    private fun showFile() {
        val hasFile = kept.file != null
        findViewById<View>(R.id.no_video).visibility = if (hasFile) View.GONE else View.VISIBLE
        findViewById<View>(R.id.play_again).isEnabled = hasFile
    }

    private fun use(setting: Setting) {
        app.setting = setting
        restart()
    }

    private fun choose() {
        val ask = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("video/*")
        @Suppress("DEPRECATION") // its replacement is not among the framework's classes
        startActivityForResult(ask, CHOOSE)
    }

    /** So that the video can be shown again after the app was ended, if its owner allows that. */
    private fun keepAccess(
        file: Uri,
        flags: Int,
    ) {
        if (flags and Intent.FLAG_GRANT_PERSISTABLE_URI_PERMISSION == 0) return
        try {
            contentResolver.takePersistableUriPermission(file, Intent.FLAG_GRANT_READ_URI_PERMISSION)
        } catch (_: SecurityException) {
            // then it is chosen again
        }
    }

    private class Kept {
        var pipeline: Pipeline? = null
        var player: Player? = null
        var file: Uri? = null
        var running: Pair<String?, Setting>? = null
    }
}
