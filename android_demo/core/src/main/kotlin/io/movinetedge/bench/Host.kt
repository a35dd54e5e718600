package io.movinetedge.bench

import java.io.File
import java.io.IOException

/** What a benchmark asks of the system it runs on. */
public interface Host {
    /** The machine as it is now. */
    public fun describe(): Machine

    /** CPU time of all threads of this process so far, in nanoseconds. */
    public fun cpuNanos(): Long

    /** The resident size of this process, in 10^6 bytes, if the system tells. */
    public fun memoryMb(): Double?

    /** The largest resident size of this process so far. */
    public fun peakMemoryMb(): Double?

    /** The hottest thermal zone in degrees Celsius, if the system tells. */
    public fun temperature(): Double?
}

// In order of how well they name a processor; ARM boards lack the first.
private val CPU_KEYS = listOf("model name", "Model", "Hardware", "cpu model")
private const val KIB = 1024
private const val MB = 1e6
private const val MILLI = 1000.0

/**
 * Linux, Android's included, as its files in [proc] and [sys] tell.
 *
 * @param cpuClock CPU time of the process in nanoseconds, of which each platform has its own.
 */
public class LinuxHost(
    private val cpuClock: () -> Long,
    private val proc: File = File("/proc"),
    private val sys: File = File("/sys"),
) : Host {
    override fun describe(): Machine {
        val architecture = System.getProperty("os.arch") ?: "unknown"
        return Machine(
            cpu = cpuName() ?: architecture,
            architecture = architecture,
            cores = Runtime.getRuntime().availableProcessors(),
            governor = read(sys.resolve("devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            temperatureC = temperature(),
            os = "${System.getProperty("os.name")} ${System.getProperty("os.version")}",
        )
    }

    override fun cpuNanos(): Long = cpuClock()

    override fun memoryMb(): Double? = status("VmRSS")

    override fun peakMemoryMb(): Double? = status("VmHWM")

    override fun temperature(): Double? {
        val zones = sys.resolve("class/thermal").listFiles().orEmpty()
        return zones
            .filter { it.name.startsWith("thermal_zone") }
            .mapNotNull { read(it.resolve("temp"))?.toLongOrNull() }
            .maxOrNull()
            ?.let { it / MILLI }
    }

    private fun cpuName(): String? {
        val fields = fields(proc.resolve("cpuinfo"))
        return CPU_KEYS.firstNotNullOfOrNull { fields[it]?.takeIf(String::isNotEmpty) }
    }

    private fun status(field: String): Double? {
        val value = fields(proc.resolve("self/status"))[field] ?: return null
        return value.substringBefore(" ").toLong() * KIB / MB
    }
}

/** The lines `name: value` of a file, of equal names the first. */
private fun fields(file: File): Map<String, String> =
    read(file)
        .orEmpty()
        .lines()
        .reversed()
        .associate { it.substringBefore(":").trim() to it.substringAfter(":", "").trim() }

private fun read(file: File): String? =
    try {
        file.readText().trim().ifEmpty { null }
    } catch (_: IOException) {
        null
    }
