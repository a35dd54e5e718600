package io.movinetedge.app.ui

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import io.movinetedge.app.R
import io.movinetedge.app.Trouble
import io.movinetedge.app.Way
import io.movinetedge.app.app
import io.movinetedge.app.troubleOf

private const val TROUBLE = "trouble"
private const val DETAIL = "detail"

/** A screen with the tabs of all of them, and a place for what went wrong and the ways on. */
abstract class Screen(
    private val tab: Tab,
    private val layout: Int,
) : Activity() {
    private lateinit var panel: ViewGroup
    private var detail: String? = null

    /** What is shown to have gone wrong. */
    var trouble: Trouble? = null
        private set

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.screen)
        layoutInflater.inflate(layout, findViewById(R.id.content))
        panel = findViewById(R.id.trouble)
        showTabs(findViewById(R.id.tabs), tab)
        setTitle(tab.title)
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        trouble?.let { outState.putString(TROUBLE, it.name) }
        outState.putString(DETAIL, detail)
    }

    override fun onRestoreInstanceState(savedInstanceState: Bundle) {
        super.onRestoreInstanceState(savedInstanceState)
        savedInstanceState.getString(TROUBLE)?.let {
            show(Trouble.valueOf(it), savedInstanceState.getString(DETAIL))
        }
    }

    /** Say what went wrong, with [detail] in the words of what found it. */
    fun show(
        trouble: Trouble,
        detail: String? = null,
    ) {
        this.trouble = trouble
        this.detail = detail
        panel.findViewById<TextView>(R.id.trouble_sentence).setText(trouble.sentence)
        panel.findViewById<TextView>(R.id.trouble_detail).showOrHide(detail)
        val buttons = panel.findViewById<ViewGroup>(R.id.trouble_ways)
        buttons.removeAllViews()
        trouble.ways.filter(::isOpen).forEachIndexed { place, way ->
            val style = if (place == 0) R.layout.button_primary else R.layout.button_secondary
            val button = layoutInflater.inflate(style, buttons, false) as TextView
            button.setText(way.label)
            button.setOnClickListener { go(way) }
            buttons.addView(button)
        }
        panel.visibility = View.VISIBLE
    }

    /** The same of an error. */
    fun show(error: Exception) = show(troubleOf(error), error.message)

    fun clearTrouble() {
        trouble = null
        detail = null
        panel.visibility = View.GONE
    }

    /** Begin anew with what is chosen now. */
    protected open fun restart() = clearTrouble()

    /** Whether a way on leads anywhere here. */
    protected open fun isOpen(way: Way): Boolean =
        when (way) {
            Way.USE_TFLITE -> "tflite" in otherEngines()
            Way.USE_ONNX_RUNTIME -> "onnxruntime" in otherEngines()
            Way.USE_DEFAULT -> app.settings.bundle != null
            Way.USE_CPU -> app.setting != app.setting.onCpu()
            Way.OTHER_PRECISION -> app.setting.precision != null
            else -> true
        }

    /** Take a way on. */
    protected open fun go(way: Way) {
        when (way) {
            Way.OPEN_SETTINGS -> {
                val own = Uri.fromParts("package", packageName, null)
                open(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, own))
            }

            Way.FREE_SPACE -> {
                open(Intent(Settings.ACTION_INTERNAL_STORAGE_SETTINGS))
            }

            Way.USE_VIDEO -> {
                open(Tab.VIDEO.intent(this))
            }

            Way.CHOOSE_BUNDLE -> {
                open(Tab.BUNDLES.intent(this))
            }

            else -> {
                change(way)
                restart()
            }
        }
    }

    /** Start another app's screen or an own one; where there is none that is said. */
    protected fun open(intent: Intent) {
        try {
            startActivity(intent)
        } catch (_: ActivityNotFoundException) {
            show(Trouble.OTHER)
        }
    }

    private fun change(way: Way) {
        when (way) {
            Way.USE_DEFAULT -> app.choose(null)
            Way.USE_CPU -> app.setting = app.setting.onCpu()
            Way.OTHER_PRECISION -> app.setting = app.setting.copy(precision = null)
            Way.USE_TFLITE -> app.setting = app.setting.with("tflite")
            Way.USE_ONNX_RUNTIME -> app.setting = app.setting.with("onnxruntime")
            else -> Unit
        }
    }

    private fun otherEngines() = app.engines.map { it.name } - app.setting.engine
}

/** Show [text], or nothing where there is none. */
fun TextView.showOrHide(text: String?) {
    this.text = text
    visibility = if (text.isNullOrEmpty()) View.GONE else View.VISIBLE
}
