package io.movinetedge.app

import android.content.Context
import android.os.Build
import android.os.Process
import io.movinetedge.bench.Benchmark
import io.movinetedge.bench.Host
import io.movinetedge.bench.LinuxHost
import io.movinetedge.bench.Machine
import java.util.concurrent.TimeUnit

/** This phone: what Linux tells, by the names that Android has for it. */
private class Phone(
    private val linux: LinuxHost = LinuxHost({ TimeUnit.MILLISECONDS.toNanos(Process.getElapsedCpuTime()) }),
) : Host by linux {
    override fun describe(): Machine {
        val machine = linux.describe()
        return machine.copy(
            device = "android",
            model = "${Build.MANUFACTURER} ${Build.MODEL}",
            apiLevel = Build.VERSION.SDK_INT,
            // Android's /proc/cpuinfo names no processor.
            cpu = if (machine.cpu == machine.architecture) Build.HARDWARE else machine.cpu,
            os = "Android ${Build.VERSION.RELEASE}, ${machine.os}",
        )
    }
}

/** The benchmark on this phone; its records name the app's version. */
fun androidBenchmark(context: Context): Benchmark {
    val version = context.packageManager.getPackageInfo(context.packageName, 0).versionName
    return Benchmark(Phone(), mapOf("android-demo" to version))
}
