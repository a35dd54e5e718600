package io.movinetedge.app

import android.app.Activity
import android.os.Bundle
import android.view.WindowManager
import android.widget.TextView
import io.movinetedge.bench.DrivenBenchmark
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread

/**
 * A benchmark that a computer starts over adb; see [DrivenBenchmark] for the extras and the files, which
 * lie in the app's own folder of the shared storage. It ends by itself, or when the screen is left.
 */
class BenchmarkActivity : Activity() {
    private lateinit var status: TextView
    private lateinit var work: Thread

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        status = TextView(this).apply { setText(R.string.app_name) }
        setContentView(status)
        val words = words(intent.extras)
        work = thread(name = "benchmark") { run(words) }
    }

    override fun onDestroy() {
        work.interrupt()
        super.onDestroy()
    }

    private fun run(words: Map<String, String>) {
        val folder = getExternalFilesDir(null) ?: filesDir
        val benchmark =
            DrivenBenchmark(folder, app.engines, androidBenchmark(this)) { app.bundles.path(null) }
        try {
            // One that was made anew writes the same files as the one before it, which is giving up.
            turn.lockInterruptibly()
            try {
                val wrong = benchmark.run(words) { show(it) }
                if (wrong == null) runOnUiThread(::finish) else show(wrong)
            } finally {
                turn.unlock()
            }
        } catch (_: InterruptedException) {
            // the screen was left
        }
    }

    private fun show(text: String) = runOnUiThread { status.text = text }

    private companion object {
        val turn = ReentrantLock()
    }
}

@Suppress("DEPRECATION") // what replaces it must know each extra's kind, and adb gives several
private fun words(extras: Bundle?): Map<String, String> =
    extras
        ?.keySet()
        .orEmpty()
        .associateWith { extras?.get(it).toString() }
