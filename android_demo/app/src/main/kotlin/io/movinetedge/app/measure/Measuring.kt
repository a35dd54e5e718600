package io.movinetedge.app.measure

import io.movinetedge.app.DemoApp
import io.movinetedge.app.Setting
import io.movinetedge.app.androidBenchmark
import io.movinetedge.bench.Report
import io.movinetedge.bench.Schedule
import io.movinetedge.engine.EngineOptions
import io.movinetedge.runtime.StreamOptions

/** A benchmark of the bundle that is chosen now. */
class Measuring(
    private val app: DemoApp,
    private val setting: Setting,
    private val schedule: Schedule,
) {
    private val id = app.settings.bundle

    /** Measure; [progress] is told of every phase. */
    fun run(progress: (String) -> Unit): Report {
        val engine = app.engines.first { it.name == setting.engine }
        val options =
            StreamOptions(setting.precision, EngineOptions(setting.threads, setting.delegate))
        return androidBenchmark(app).run(app.bundles.path(id), engine, options, schedule, progress)
    }
}
