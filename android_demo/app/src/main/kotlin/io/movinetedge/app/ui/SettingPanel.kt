package io.movinetedge.app.ui

import android.view.View
import io.movinetedge.app.DELEGATES
import io.movinetedge.app.R
import io.movinetedge.app.Setting

private val THREADS = listOf(1, 2, 3, 4, 6, 8)

/** Engine, delegate, threads and precision, to be chosen while a stream runs. */
class SettingPanel(
    root: View,
    private val engines: List<String>,
    private val changed: (Setting) -> Unit,
) {
    private val context = root.context
    private val engine =
        Choice<String>(root.findViewById(R.id.engine), ::engineName) { change(setting.with(it)) }
    private val delegate =
        Choice<String>(root.findViewById(R.id.delegate), { delegateName(context, it) }) {
            change(setting.copy(delegate = it))
        }
    private val threads =
        Choice<Int>(root.findViewById(R.id.threads), { it.toString() }) { change(setting.copy(threads = it)) }
    private val precision =
        Choice<String>(root.findViewById(R.id.precision), { it }) { change(setting.copy(precision = it)) }
    private var setting = Setting()
    private var precisions = emptyList<String>()

    /** Show what is chosen; [precisions] are the bundle's, as far as they are known. */
    fun show(
        setting: Setting,
        precisions: List<String> = this.precisions,
    ) {
        this.setting = setting
        this.precisions = precisions
        engine.show(engines, setting.engine)
        delegate.show(DELEGATES.getValue(setting.engine), setting.delegate)
        val counts = THREADS.filter { it <= cores() } + setting.threads
        threads.show(counts.distinct().sorted(), setting.threads)
        val known = (precisions + listOfNotNull(setting.precision)).distinct()
        val wanted = setting.precision ?: known.firstOrNull() ?: "–"
        precision.show(known.ifEmpty { listOf(wanted) }, wanted)
    }

    private fun change(next: Setting) {
        show(next)
        changed(next)
    }
}

private fun cores() = Runtime.getRuntime().availableProcessors()
