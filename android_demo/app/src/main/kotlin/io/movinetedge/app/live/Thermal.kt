package io.movinetedge.app.live

import android.content.Context
import android.os.Build
import android.os.PowerManager

/** Tells how hot the phone is, from 0 (cool) to 6 (about to shut down); Android 10 and newer know. */
class Thermal(
    context: Context,
    private val tell: (Int) -> Unit,
) {
    private val power = context.getSystemService(PowerManager::class.java)
    private val isKnown = Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q
    private val listener =
        if (isKnown) PowerManager.OnThermalStatusChangedListener { tell(it) } else null

    fun start() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return
        listener?.let(power::addThermalStatusListener)
        tell(power.currentThermalStatus)
    }

    fun stop() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return
        listener?.let(power::removeThermalStatusListener)
    }
}
