package io.movinetedge.app

import android.app.Application
import android.content.Context
import io.movinetedge.app.bundles.AssetBundles
import io.movinetedge.app.bundles.BuiltIn
import io.movinetedge.app.bundles.BundleStore
import io.movinetedge.engine.EngineFactory

/** What all screens share. */
open class DemoApp : Application() {
    /** Engines that this app brings along. */
    open val engines: List<EngineFactory> by lazy { androidEngines() }

    /** Bundles that it brings along. */
    protected open val builtIn: BuiltIn by lazy { AssetBundles(this) }

    val settings by lazy { Settings(this) }
    val bundles by lazy { BundleStore(filesDir, getExternalFilesDir("bundles"), builtIn) }

    /** As it was chosen, or with the first engine where that one is not in this app. */
    var setting: Setting
        get() {
            val kept = settings.setting
            return if (engines.any { it.name == kept.engine }) kept else kept.with(engines.first().name)
        }
        set(value) {
            settings.setting = value
        }

    /** Run that bundle from now on, in whatever precision it has; null is the app's own. */
    fun choose(bundle: String?) {
        settings.bundle = bundle
        setting = setting.copy(precision = null)
    }
}

/** The app that a screen belongs to. */
val Context.app: DemoApp get() = applicationContext as DemoApp
