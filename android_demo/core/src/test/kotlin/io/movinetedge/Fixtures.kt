package io.movinetedge

import io.movinetedge.bundle.readNpz
import io.movinetedge.check.rows
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TfliteEngines
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import java.io.File

/** What the Python runtime answered with an engine on a bundle's golden stream. */
class PythonAnswers(
    val name: String,
    val backend: String,
    val precision: String,
    private val path: File,
) {
    private val arrays by lazy { readNpz(path) }

    /** The numbers of the frames after which there was an answer, and what was decided there. */
    val frames: IntArray get() = arrays.getValue("frames").ints()
    val actions: IntArray get() = arrays.getValue("actions").ints()

    /** The answers; none where the stream is shorter than a clip. */
    val logits: List<FloatArray>
        get() = arrays.getValue("logits").let { if (it.size > 0) it.rows() else emptyList() }

    /** The answer when the stream was finished. */
    val final: FloatArray get() = arrays.getValue("final").floats()
    val bundle: File get() = Fixtures.bundle(name)

    /** The engine here that runs the same files. */
    val engine: EngineFactory get() = Fixtures.engine(backend)

    override fun toString() = "$name $precision, $backend"
}

/** Bundles and expected values that the Python side wrote; `make android-fixtures`. */
object Fixtures {
    val folder = File(System.getProperty("fixtures"))

    init {
        check(folder.resolve("answers.json").isFile) {
            "there are no fixtures in $folder; run make android-fixtures"
        }
    }

    val answers: List<PythonAnswers> =
        Json.parseToJsonElement(folder.resolve("answers.json").readText()).jsonArray.map { entry ->
            fun text(field: String) =
                entry.jsonObject
                    .getValue(field)
                    .jsonPrimitive.content
            val path = folder.resolve(text("path"))
            PythonAnswers(text("bundle"), text("backend"), text("precision"), path)
        }

    fun bundle(name: String): File = folder.resolve(name).resolve("bundle")

    fun engine(backend: String): EngineFactory = if (backend == "onnxruntime") OrtEngines else TfliteEngines()

    /** Both engines that run bundles here. */
    val engines: List<EngineFactory> = listOf(OrtEngines, TfliteEngines())
}
