package io.movinetedge.app

import android.content.Context
import android.content.SharedPreferences

/** Delegates by engine that there may be, the default first; which are there the engine says. */
val DELEGATES: Map<String, List<String>> =
    linkedMapOf(
        "tflite" to listOf("xnnpack", "none", "nnapi", "gpu"),
        "onnxruntime" to listOf("none", "xnnpack", "nnapi"),
    )

/** Delegates that compute on the CPU. */
val ON_CPU = setOf("none", "xnnpack")

/** Who is to compute, and with which numbers; a [precision] of null is the bundle's first. */
data class Setting(
    val engine: String = "tflite",
    val delegate: String = DELEGATES.getValue("tflite").first(),
    val threads: Int = 2,
    val precision: String? = null,
) {
    /** The same on the CPU. */
    fun onCpu() = copy(delegate = DELEGATES.getValue(engine).first())

    /** The same with another engine, its default delegate and whatever it has. */
    fun with(engine: String) =
        copy(engine = engine, delegate = DELEGATES.getValue(engine).first(), precision = null)
}

/** What is remembered from one start of the app to the next. */
class Settings(
    context: Context,
) {
    private val kept: SharedPreferences = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    var setting: Setting
        get() {
            val default = Setting()
            val engine = kept.getString("engine", null)?.takeIf { it in DELEGATES } ?: default.engine
            val delegates = DELEGATES.getValue(engine)
            return Setting(
                engine,
                kept.getString("delegate", null)?.takeIf { it in delegates } ?: delegates.first(),
                kept.getInt("threads", default.threads),
                kept.getString("precision", null),
            )
        }
        set(value) {
            kept
                .edit()
                .putString("engine", value.engine)
                .putString("delegate", value.delegate)
                .putInt("threads", value.threads)
                .putString("precision", value.precision)
                .apply()
        }

    /** The chosen bundle's id; null is the one that comes with the app. */
    var bundle: String?
        get() = kept.getString("bundle", null)
        set(value) = kept.edit().putString("bundle", value).apply()
}
