package io.movinetedge

import com.sun.management.OperatingSystemMXBean
import io.movinetedge.bench.Benchmark
import io.movinetedge.bench.DrivenBenchmark
import io.movinetedge.bench.LinuxHost
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TfliteEngines
import java.io.File
import java.lang.management.ManagementFactory

private val TOOLS = mapOf("android-demo" to "0.1.0", "java" to System.getProperty("java.version"))

/** The app's benchmark as it is driven over adb, on this computer, with its files in [folder]. */
fun drivenBenchmark(folder: File): DrivenBenchmark {
    val system = ManagementFactory.getOperatingSystemMXBean() as OperatingSystemMXBean
    val benchmark = Benchmark(LinuxHost({ system.processCpuTime }), TOOLS)
    return DrivenBenchmark(folder, listOf(TfliteEngines(), OrtEngines), benchmark) {
        throw BadInput("nothing is built in here; name a bundle")
    }
}

/** What `am start` starts on a test's device. Arguments: the app's folder, and extras as `am` has them. */
fun main(arguments: Array<String>) {
    val words = arguments.drop(1).chunked(3).associate { (_, name, value) -> name to value }
    drivenBenchmark(File(arguments.first())).run(words)
}
