package io.movinetedge.app

import io.movinetedge.app.bundles.BuiltIn
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TfliteEngines
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.InputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Bundles that the Python side wrote; `make android-fixtures`. */
object Fixtures {
    private val folder = File(System.getProperty("fixtures"))

    /** The trained checkpoint, fp32 and int8. */
    val motion: File get() = bundle("int8")

    fun bundle(name: String): File =
        folder.resolve(name).resolve("bundle").also {
            check(it.isDirectory) { "there is no $it; run make android-fixtures" }
        }

    /** A bundle as a zip, after [change] of its files. */
    fun zipped(
        bundle: File,
        change: (String, ByteArray) -> ByteArray = { _, content -> content },
    ): ByteArray {
        val bytes = ByteArrayOutputStream()
        ZipOutputStream(bytes).use { zip ->
            for (file in bundle.walk().filter { it.isFile }.sorted()) {
                val name = file.relativeTo(bundle).path
                zip.putNextEntry(ZipEntry(name))
                zip.write(change(name, file.readBytes()))
            }
        }
        return bytes.toByteArray()
    }
}

/** The app with the engines that run on this computer, and the trained checkpoint inside. */
class TestApp : DemoApp() {
    /** GPU: an accelerator that is there and cannot take the model. NNAPI is not there. */
    override val engines: List<EngineFactory> by lazy {
        val gpu = { throw IllegalArgumentException("no such chip") }
        listOf(TfliteEngines(mapOf("gpu" to gpu)), OrtEngines)
    }

    public override val builtIn: BuiltIn =
        object : BuiltIn {
            private val zip by lazy { Fixtures.zipped(Fixtures.motion) }
            override val version = 1L

            override fun names() = listOf("motion-a0-stream.zip")

            override fun open(name: String): InputStream = zip.inputStream()
        }
}
