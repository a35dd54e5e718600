package io.movinetedge.app

import io.movinetedge.app.bundles.BuiltIn
import io.movinetedge.bundle.Bundle
import io.movinetedge.check.Golden
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TfliteEngines
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.InputStream
import java.util.zip.Deflater
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Bundles that the Python side wrote; `make android-fixtures`. */
object Fixtures {
    private val folder = File(System.getProperty("fixtures"))

    /** The trained checkpoint, fp32 and int8. */
    val motion: File get() = bundle("int8")

    /** The same as a zip. */
    val motionZip: ByteArray by lazy { zipped(motion) }

    fun bundle(name: String): File =
        folder.resolve(name).resolve("bundle").also {
            check(it.isDirectory) { "there is no $it; run make android-fixtures" }
        }

    /** A bundle of another schema version, as a zip. */
    fun newer(version: Int): ByteArray =
        zipped(bundle("arnet")) { name, content ->
            if (name != "manifest.json") return@zipped content
            val old = content.decodeToString()
            val new = old.replace(Regex("\"schema_version\": ?2"), "\"schema_version\": $version")
            check(new != old)
            new.encodeToByteArray()
        }

    /** A bundle as a zip, after [change] of its files. */
    fun zipped(
        bundle: File,
        change: (String, ByteArray) -> ByteArray = { _, content -> content },
    ): ByteArray {
        val bytes = ByteArrayOutputStream()
        ZipOutputStream(bytes).use { zip ->
            zip.setLevel(Deflater.NO_COMPRESSION)
            for (file in bundle.walk().filter { it.isFile }.sorted()) {
                val name = file.relativeTo(bundle).path
                zip.putNextEntry(ZipEntry(name))
                zip.write(change(name, file.readBytes()))
            }
        }
        return bytes.toByteArray()
    }
}

/** So many frames of a golden stream are enough for screens. */
const val FRAMES = 8

/** The class that the PyTorch model answers after [FRAMES] frames. */
fun Golden.wanted(bundle: Bundle): String {
    val answer = logits[FRAMES - 1]
    return bundle.labels[answer.indices.maxBy { answer[it] }]
}

/** The app with the engines that run on this computer, and the trained checkpoint inside. */
class TestApp : DemoApp() {
    /** One thread, for tests run beside one another. */
    override fun onCreate() {
        super.onCreate()
        setting = Setting(threads = 1)
    }

    /** GPU: an accelerator that is there and cannot take the model. NNAPI is not there. */
    override val engines: List<EngineFactory> by lazy {
        val gpu = { throw IllegalArgumentException("no such chip") }
        listOf(TfliteEngines(mapOf("gpu" to gpu)), OrtEngines)
    }

    public override val builtIn: BuiltIn =
        object : BuiltIn {
            override val version = 1L

            override fun names() = listOf("motion-a0-stream.zip")

            override fun open(name: String): InputStream = Fixtures.motionZip.inputStream()
        }
}
