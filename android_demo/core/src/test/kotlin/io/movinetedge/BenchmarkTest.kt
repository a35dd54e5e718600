package io.movinetedge

import com.sun.management.OperatingSystemMXBean
import io.movinetedge.bench.Benchmark
import io.movinetedge.bench.LinuxHost
import io.movinetedge.bench.Mode
import io.movinetedge.bench.Report
import io.movinetedge.bench.Schedule
import io.movinetedge.bench.distribution
import io.movinetedge.bench.reportOf
import io.movinetedge.bench.toJson
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.engine.OrtEngines
import io.movinetedge.runtime.StreamOptions
import kotlinx.serialization.json.JsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.io.File
import java.lang.management.ManagementFactory

/** The benchmark on this computer; its records are left for `tests/test_android_core.py` to read. */
class BenchmarkTest {
    @TempDir
    lateinit var folder: File

    private val system = ManagementFactory.getOperatingSystemMXBean() as OperatingSystemMXBean
    private val benchmark = Benchmark(LinuxHost({ system.processCpuTime }), mapOf("android-demo" to "0.1.0"))

    private fun kept(
        name: String,
        report: Report,
    ): Report {
        val target = File("target/records/$name.json")
        target.parentFile.mkdirs()
        target.writeText(report.toJson())
        return report
    }

    @ParameterizedTest
    @MethodSource("cases")
    fun `back to back`(
        name: String,
        engine: EngineFactory,
    ) {
        val ran = benchmark.run(Fixtures.bundle(name), engine, StreamOptions(), Schedule(steps = 60))
        val report = kept("$name-${engine.name}", ran)
        val measured = report.measurements.single()
        println("$name, ${engine.name}: step ${measured.stepMs}, overhead ${measured.overheadMs} ms")
        assertEquals(60, measured.method.steps)
        assertEquals("back-to-back", measured.method.mode)
        assertNull(measured.lateSteps)
        assertTrue(measured.engineMs.p50 <= measured.stepMs.p50)
        assertTrue(measured.alone.peakMemoryMb!! >= measured.alone.baseMemoryMb!!)
        assertEquals(engine.library, measured.subject.engine)
    }

    @Test
    fun `paced, for a while`() {
        val schedule = Schedule(Mode.PACED, minutes = 0.02)
        val ran = benchmark.run(Fixtures.bundle("slowfast"), OrtEngines, StreamOptions(), schedule)
        val measured = kept("paced", ran).measurements.single()
        val rate = measured.method.frameRate!!
        val seconds = measured.sustained!!.seconds
        assertEquals("paced", measured.method.mode)
        assertTrue(seconds >= 1.2)
        assertTrue(measured.method.steps <= rate * seconds + 1) { "${measured.method.steps} steps at $rate" }
        assertTrue(measured.lateSteps!! <= measured.method.steps)
    }

    @Test
    fun `sustained`() {
        val schedule = Schedule(Mode.SUSTAINED, minutes = 0.01)
        val ran = benchmark.run(Fixtures.bundle("arnet"), OrtEngines, StreamOptions(), schedule)
        val measured = kept("sustained", ran).measurements.single()
        assertTrue(measured.sustained!!.seconds >= 0.6)
        assertTrue(measured.sustained.throttled > 0)
    }

    @Test
    fun `whoever waits can give up`() {
        val schedule = Schedule(Mode.SUSTAINED, minutes = 60.0)
        Thread.currentThread().interrupt()
        assertThrows(InterruptedException::class.java) {
            benchmark.run(Fixtures.bundle("arnet"), OrtEngines, StreamOptions(), schedule)
        }
    }

    @Test
    fun `a record is read as it was written`() {
        val ran = benchmark.run(Fixtures.bundle("arnet"), OrtEngines, StreamOptions(), Schedule(steps = 2))
        assertEquals(ran, reportOf(ran.toJson()))
        assertThrows(IllegalArgumentException::class.java) { reportOf("{}") }
    }

    @Test
    fun `wrong numbers have no latency`() {
        val changed =
            edited(Fixtures.bundle("ensemble"), folder.resolve("b")) { json ->
                json.with("plan", "combine") { JsonPrimitive("last") }
            }
        val error =
            assertThrows(CheckFailed::class.java) {
                benchmark.run(changed, OrtEngines, StreamOptions(), Schedule())
            }
        assertTrue("onnxruntime fp32 computes wrong numbers: error " in error.message.orEmpty())
    }

    @Test
    fun `an accelerator that is not there has none either`() {
        val options = StreamOptions(engine = EngineOptions(delegate = "nnapi"))
        assertThrows(BadInput::class.java) {
            benchmark.run(Fixtures.bundle("arnet"), OrtEngines, options, Schedule())
        }
    }

    @Test
    fun `schedules that make no sense are refused`() {
        val wrong =
            listOf(
                Schedule(steps = 0),
                Schedule(minutes = 1.0),
                Schedule(Mode.SUSTAINED),
                Schedule(Mode.PACED, minutes = -1.0),
            )
        for (schedule in wrong) {
            assertThrows(BadInput::class.java) {
                benchmark.run(Fixtures.bundle("arnet"), OrtEngines, StreamOptions(), schedule)
            }
        }
    }

    @Test
    fun `percentiles interpolate as NumPy's`() {
        val found = distribution(doubleArrayOf(4.0, 1.0, 3.0, 2.0))
        assertEquals(1.3, found.p10, 1e-12)
        assertEquals(2.5, found.p50, 1e-12)
        assertEquals(3.97, found.p99, 1e-12)
        assertEquals(2.5, found.mean, 1e-12)
    }

    @Test
    fun `a system that tells nothing is one, too`() {
        val host = LinuxHost({ 0 }, folder.resolve("proc"), folder.resolve("sys"))
        val machine = host.describe()
        assertEquals(machine.architecture, machine.cpu)
        assertNull(machine.temperatureC)
        assertNull(machine.governor)
        assertNull(host.memoryMb())
    }

    @Test
    fun `sensors are read`() {
        fun write(
            path: String,
            text: String,
        ) = folder.resolve(path).apply { parentFile.mkdirs() }.writeText(text)
        write("proc/cpuinfo", "processor\t: 0\nHardware\t: Chip 9\n")
        write("proc/self/status", "Name:\tx\nVmRSS:\t    2000 kB\nVmHWM:\t    3000 kB\n")
        write("sys/class/thermal/thermal_zone0/temp", "41000\n")
        write("sys/class/thermal/thermal_zone1/temp", "43500\n")
        val host = LinuxHost({ 0 }, folder.resolve("proc"), folder.resolve("sys"))
        assertEquals("Chip 9", host.describe().cpu)
        assertEquals(43.5, host.temperature())
        assertEquals(2.048, host.memoryMb())
        assertEquals(3.072, host.peakMemoryMb())
    }

    companion object {
        @JvmStatic
        fun cases() =
            listOf("a0", "ensemble", "slowfast", "arnet", "a0-clip")
                .flatMap { name -> Fixtures.engines.map { arrayOf(name, it) } }
    }
}
