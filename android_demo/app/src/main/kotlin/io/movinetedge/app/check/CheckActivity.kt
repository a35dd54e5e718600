package io.movinetedge.app.check

import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.TextView
import io.movinetedge.BadInput
import io.movinetedge.app.R
import io.movinetedge.app.app
import io.movinetedge.app.ui.Screen
import io.movinetedge.app.ui.Tab
import io.movinetedge.app.ui.Task
import io.movinetedge.app.ui.delegateName
import io.movinetedge.app.ui.engineName
import io.movinetedge.app.ui.showOrHide

private const val CHECKS = "checks"

/** How far the checks of a bundle are; [error] is why there are none. */
class CheckState(
    val bundle: String? = null,
    val checks: List<Check> = emptyList(),
    val error: Exception? = null,
)

/** Proves that the phone computes the right numbers: the golden stream on everything that runs it. */
class CheckActivity : Screen(Tab.CHECK, R.layout.check) {
    private lateinit var task: Task<CheckState>
    private lateinit var rows: ViewGroup
    private lateinit var button: Button

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        @Suppress("UNCHECKED_CAST")
        task = lastNonConfigurationInstance as? Task<CheckState>
            ?: Task(savedInstanceState?.getBundle(CHECKS)?.let(::readChecks) ?: CheckState())
        rows = findViewById(R.id.rows)
        button = findViewById(R.id.run_checks)
        button.setOnClickListener { if (task.isRunning) task.set(stopped(task.state)) else restart() }
    }

    override fun onStart() {
        super.onStart()
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
        outState.putBundle(CHECKS, written(stopped(task.state)))
    }

    override fun restart() {
        super.restart()
        val id = app.settings.bundle
        val engines = app.engines
        val threads = app.setting.threads
        val store = app.bundles
        val scratch = cacheDir
        task.set(CheckState())
        task.start { say ->
            try {
                io.movinetedge.bundle.Bundle(store.path(id), scratch).use { bundle ->
                    val name = bundle.manifest.name
                    runChecks(bundle, engines, threads) { say(CheckState(name, it)) }
                }
            } catch (error: BadInput) {
                say(CheckState(error = error))
            }
        }
        show(task.state)
    }

    private fun show(state: CheckState) {
        state.error?.let(::show)
        button.setText(if (task.isRunning) R.string.stop else R.string.run_checks)
        findViewById<TextView>(R.id.checked_bundle)
            .showOrHide(state.bundle?.let { getString(R.string.checked_bundle, it, summary(state.checks)) })
        while (rows.childCount > state.checks.size) rows.removeViewAt(rows.childCount - 1)
        while (rows.childCount < state.checks.size) layoutInflater.inflate(R.layout.check_row, rows)
        state.checks.forEachIndexed { place, check -> fill(rows.getChildAt(place), check) }
    }

    private fun summary(checks: List<Check>): String {
        val passed = checks.count { it.verdict == Verdict.PASSED }
        val failed = checks.count { it.verdict == Verdict.FAILED }
        return getString(R.string.checks_summary, passed, failed, checks.size - passed - failed)
    }

    private fun fill(
        row: View,
        check: Check,
    ) {
        val title =
            getString(
                R.string.check_title,
                engineName(check.engine),
                delegateName(this, check.delegate),
                check.precision,
            )
        row.findViewById<TextView>(R.id.check_title).text = title
        val verdict = row.findViewById<TextView>(R.id.check_verdict)
        verdict.setText(check.verdict.text())
        verdict.setTextColor(getColor(check.verdict.colour()))
        val figures =
            if (check.error != null && check.limit != null) {
                getString(R.string.check_error, check.error, check.limit)
            } else {
                null
            }
        val detail = listOfNotNull(figures, check.note).joinToString("\n")
        row.findViewById<TextView>(R.id.check_detail).showOrHide(detail)
        row.contentDescription = "$title: ${verdict.text}. $detail"
    }
}

private fun Verdict.text(): Int =
    when (this) {
        Verdict.WAITING -> R.string.verdict_waiting
        Verdict.RUNNING -> R.string.verdict_running
        Verdict.PASSED -> R.string.verdict_passed
        Verdict.FAILED -> R.string.verdict_failed
        Verdict.ABSENT -> R.string.verdict_absent
        Verdict.REFUSED -> R.string.verdict_refused
    }

private fun Verdict.colour(): Int =
    when (this) {
        Verdict.PASSED -> R.color.pass
        Verdict.FAILED -> R.color.fail
        else -> R.color.text_quiet
    }

/** As it is without whoever was working on it. */
private fun stopped(state: CheckState) =
    CheckState(
        state.bundle,
        state.checks.map { if (it.verdict == Verdict.RUNNING) it.copy(verdict = Verdict.WAITING) else it },
    )

private fun written(state: CheckState) =
    Bundle().apply {
        putString("bundle", state.bundle)
        putParcelableArrayList("rows", ArrayList(state.checks.map(::written)))
    }

private fun written(check: Check) =
    Bundle().apply {
        putString("engine", check.engine)
        putString("delegate", check.delegate)
        putString("precision", check.precision)
        putString("verdict", check.verdict.name)
        check.error?.let { putDouble("error", it) }
        check.limit?.let { putDouble("limit", it) }
        putString("note", check.note)
    }

@Suppress("DEPRECATION") // what takes its place came with Android 13
private fun readChecks(from: Bundle) =
    CheckState(
        from.getString("bundle"),
        from.getParcelableArrayList<Bundle>("rows").orEmpty().map(::readCheck),
    )

private fun readCheck(from: Bundle) =
    Check(
        from.getString("engine").orEmpty(),
        from.getString("delegate").orEmpty(),
        from.getString("precision").orEmpty(),
        Verdict.valueOf(from.getString("verdict").orEmpty()),
        if (from.containsKey("error")) from.getDouble("error") else null,
        if (from.containsKey("limit")) from.getDouble("limit") else null,
        from.getString("note"),
    )
