package io.movinetedge.app.measure

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.Spinner
import android.widget.TextView
import io.movinetedge.BadInput
import io.movinetedge.CheckFailed
import io.movinetedge.app.R
import io.movinetedge.app.Trouble
import io.movinetedge.app.app
import io.movinetedge.app.ui.Choice
import io.movinetedge.app.ui.Screen
import io.movinetedge.app.ui.SettingPanel
import io.movinetedge.app.ui.Tab
import io.movinetedge.app.ui.Task
import io.movinetedge.app.ui.showOrHide
import io.movinetedge.bench.Mode
import io.movinetedge.bench.Report
import io.movinetedge.bench.Schedule
import io.movinetedge.bench.reportOf
import io.movinetedge.bench.toJson
import java.io.IOException

private const val SAVE = 1
private const val MODE = "mode"
private const val MINUTES = "minutes"
private const val RESULT = "result"
private const val JSON = "application/json"
private val MINUTES_OFFERED = listOf(1, 3, 10, 30)

/** How far a benchmark is. */
sealed interface Measured {
    data object Nothing : Measured

    data object Stopped : Measured

    class Doing(
        val what: String,
    ) : Measured

    class Failed(
        val error: Exception,
    ) : Measured

    class Ready(
        val report: Report,
    ) : Measured
}

/** Times the chosen bundle, as `movinet-edge bench` does. */
class MeasureActivity : Screen(Tab.MEASURE, R.layout.measure) {
    private lateinit var task: Task<Measured>
    private lateinit var chosen: SettingPanel
    private lateinit var modes: Choice<Mode>
    private lateinit var lengths: Choice<Int>
    private lateinit var button: Button
    private var mode = Mode.BACK_TO_BACK
    private var minutes = MINUTES_OFFERED.first()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        @Suppress("UNCHECKED_CAST")
        task = lastNonConfigurationInstance as? Task<Measured> ?: Task(restored(savedInstanceState))
        savedInstanceState?.let {
            mode = Mode.valueOf(it.getString(MODE, mode.name))
            minutes = it.getInt(MINUTES, minutes)
        }
        chosen = SettingPanel(findViewById(R.id.content), app.engines.map { it.name }) { app.setting = it }
        modes =
            Choice(findViewById<Spinner>(R.id.mode), { getString(it.text()) }) {
                mode = it
                showChoices()
            }
        lengths =
            Choice(
                findViewById<Spinner>(R.id.minutes),
                { resources.getQuantityString(R.plurals.minutes, it, it) },
            ) { minutes = it }
        button = findViewById(R.id.start)
        button.setOnClickListener { if (task.isRunning) task.set(Measured.Stopped) else restart() }
        findViewById<View>(R.id.share).setOnClickListener { share() }
        findViewById<View>(R.id.save).setOnClickListener { save() }
    }

    override fun onStart() {
        super.onStart()
        showChoices()
        task.listener = ::show
    }

    override fun onStop() {
        task.listener = null
        super.onStop()
    }

    override fun onDestroy() {
        if (!isChangingConfigurations) task.stop()
        super.onDestroy()
    }

    @Deprecated("its replacement is not among the framework's classes")
    override fun onRetainNonConfigurationInstance(): Any = task

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(MODE, mode.name)
        outState.putInt(MINUTES, minutes)
        outState.putString(RESULT, report()?.toJson())
    }

    @Deprecated("its replacement is not among the framework's classes")
    override fun onActivityResult(
        requestCode: Int,
        resultCode: Int,
        data: Intent?,
    ) {
        val target = data?.data
        if (requestCode == SAVE && resultCode == Activity.RESULT_OK && target != null) write(target)
    }

    override fun restart() {
        super.restart()
        showChoices()
        val work = Measuring(app, app.setting, schedule())
        task.set(Measured.Nothing)
        task.start { say ->
            try {
                say(Measured.Ready(work.run { say(Measured.Doing(it)) }))
            } catch (error: BadInput) {
                say(Measured.Failed(error))
            } catch (error: CheckFailed) {
                say(Measured.Failed(error))
            } catch (_: InterruptedException) {
                // whoever stopped it knows
            }
        }
        show(task.state)
    }

    private fun schedule() =
        when (mode) {
            Mode.BACK_TO_BACK -> Schedule(mode)
            Mode.PACED, Mode.SUSTAINED -> Schedule(mode, minutes = minutes.toDouble())
        }

    private fun showChoices() {
        chosen.show(app.setting)
        modes.show(Mode.entries, mode)
        lengths.show(MINUTES_OFFERED, minutes)
        findViewById<View>(R.id.minutes_group).visibility =
            if (mode == Mode.BACK_TO_BACK) View.GONE else View.VISIBLE
    }

    private fun show(state: Measured) {
        val isRunning = task.isRunning
        button.setText(if (isRunning) R.string.stop else R.string.start)
        val flag = WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON
        if (isRunning) window.addFlags(flag) else window.clearFlags(flag)
        findViewById<View>(R.id.working).visibility = if (isRunning) View.VISIBLE else View.GONE
        findViewById<TextView>(R.id.progress).showOrHide(
            when (state) {
                is Measured.Doing -> phase(state.what)
                is Measured.Stopped -> getString(R.string.stopped)
                else -> null
            },
        )
        (state as? Measured.Failed)?.let { show(it.error) }
        val report = (state as? Measured.Ready)?.report
        findViewById<TextView>(R.id.result).showOrHide(report?.let(::described))
        findViewById<View>(R.id.result_ways).visibility = if (report == null) View.GONE else View.VISIBLE
    }

    private fun phase(what: String): String =
        when (what) {
            "loading" -> getString(R.string.phase_loading)
            "checking" -> getString(R.string.phase_checking)
            "timing" -> getString(R.string.phase_timing)
            else -> what
        }

    private fun described(report: Report): String {
        val measured = report.measurements.single()
        val (step, alone) = measured.stepMs to measured.alone
        val (subject, method) = measured.subject to measured.method
        val lines =
            listOfNotNull(
                getString(R.string.result_subject, subject.bundle, subject.label, method.threads),
                getString(R.string.result_step, step.p50, step.p90, step.p99),
                getString(R.string.result_engine, measured.engineMs.p50, measured.overheadMs),
                getString(R.string.result_start, alone.loadMs, alone.firstStepMs),
                alone.peakMemoryMb?.let { getString(R.string.result_memory, it) },
                measured.lateSteps?.let { getString(R.string.result_late, it, method.steps) },
                measured.sustained?.let { getString(R.string.result_throttled, it.throttled) },
            )
        return lines.joinToString("\n")
    }

    private fun report() = (task.state as? Measured.Ready)?.report

    private fun share() {
        val report = report() ?: return
        val text =
            Intent(Intent.ACTION_SEND)
                .setType("text/plain")
                .putExtra(Intent.EXTRA_TITLE, fileName(report))
                .putExtra(Intent.EXTRA_SUBJECT, fileName(report))
                .putExtra(Intent.EXTRA_TEXT, report.toJson())
        open(Intent.createChooser(text, getString(R.string.share)))
    }

    private fun save() {
        val report = report() ?: return
        val ask =
            Intent(Intent.ACTION_CREATE_DOCUMENT)
                .addCategory(Intent.CATEGORY_OPENABLE)
                .setType(JSON)
                .putExtra(Intent.EXTRA_TITLE, fileName(report))
        @Suppress("DEPRECATION") // its replacement is not among the framework's classes
        startActivityForResult(ask, SAVE)
    }

    private fun write(target: Uri) {
        val report = report() ?: return
        try {
            contentResolver.openOutputStream(target)?.use { it.write(report.toJson().toByteArray()) }
        } catch (error: IOException) {
            show(Trouble.NO_SPACE, error.message)
        }
    }
}

private fun fileName(report: Report) =
    "${report.measurements.single().subject.bundle} ${report.date.replace(":", "")}.json"

private fun Mode.text(): Int =
    when (this) {
        Mode.BACK_TO_BACK -> R.string.mode_back_to_back
        Mode.PACED -> R.string.mode_paced
        Mode.SUSTAINED -> R.string.mode_sustained
    }

private fun restored(from: Bundle?): Measured =
    from?.getString(RESULT)?.let { Measured.Ready(reportOf(it)) } ?: Measured.Nothing
