package io.movinetedge.bench

import io.movinetedge.BadInput
import io.movinetedge.CheckFailed
import io.movinetedge.Fault
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.runtime.StreamOptions
import java.io.File
import java.io.IOException

private val MODES =
    mapOf(
        "back-to-back" to Mode.BACK_TO_BACK,
        "paced" to Mode.PACED,
        "sustained" to Mode.SUSTAINED,
    )
private val WORDS =
    setOf("bundle", "engine", "delegate", "threads", "precision", "mode", "steps", "minutes", "out")
private val SHORT_NAMES = mapOf("ort" to "onnxruntime")
private const val RECORD = "record.json"
private const val REFUSED = ".refused"
private const val FAILED = ".failed"
private const val PROGRESS = ".progress"
private const val UNFINISHED = ".unfinished"

/**
 * A benchmark that a computer asks for in words and whose files it waits for.
 *
 * Bundles lie in `bundles` of [folder]. In `records` there comes a record of the name `out`, or beside
 * it one sentence, `out.refused` (wrong use or input) or `out.failed` (wrong numbers); until then
 * `out.progress` tells what is being done.
 *
 * @param builtIn the bundle that is meant where none is named.
 */
public class DrivenBenchmark(
    private val folder: File,
    private val engines: List<EngineFactory>,
    private val benchmark: Benchmark,
    private val builtIn: () -> File,
) {
    /**
     * Run what the [words] ask for: `bundle` (a name in the folder), `engine`, `delegate`, `threads`,
     * `precision`, `mode` (back-to-back, paced or sustained), `steps`, `minutes` and `out` (a name).
     * [progress] is told what is being done. Returns the sentence of what went wrong, or null.
     */
    public fun run(
        words: Map<String, String>,
        progress: (String) -> Unit = {},
    ): String? {
        val name = words["out"]?.takeIf(::isPlain) ?: RECORD
        val files = Files(folder.resolve("records"), name)
        files.clear()
        try {
            val report =
                measure(words) {
                    files.write(PROGRESS, it)
                    progress(it)
                }
            files.write("", report.toJson())
            return null
        } catch (error: BadInput) {
            return files.fail(REFUSED, error)
        } catch (error: CheckFailed) {
            return files.fail(FAILED, error)
        }
    }

    private fun measure(
        words: Map<String, String>,
        progress: (String) -> Unit,
    ): Report {
        val unknown = words.keys - WORDS
        if (unknown.isNotEmpty()) {
            throw BadInput("unknown ${unknown.sorted().joinToString()}; there are ${WORDS.joinToString()}")
        }
        for (word in listOf("bundle", "out")) {
            val name = words[word] ?: continue
            if (!isPlain(name)) throw BadInput("$word is a file's name in the app's own folder, not '$name'")
        }
        val bundle = words["bundle"]?.let { folder.resolve("bundles").resolve(it) } ?: builtIn()
        val asked = EngineOptions(number(words, "threads") ?: 1, words["delegate"])
        val options = StreamOptions(words["precision"], asked)
        return benchmark.run(bundle, engine(words["engine"]), options, schedule(words), progress)
    }

    private fun engine(word: String?): EngineFactory {
        if (word == null) return engines.first()
        val name = SHORT_NAMES[word] ?: word
        return engines.find { it.name == name }
            ?: throw BadInput("this app has no engine $name; it has ${engines.joinToString { it.name }}")
    }
}

private fun schedule(words: Map<String, String>): Schedule {
    val word = words["mode"] ?: MODES.keys.first()
    val mode = MODES[word] ?: throw BadInput("mode is ${MODES.keys.joinToString(" or ")}, not '$word'")
    val minutes =
        words["minutes"]?.let {
            it.toDoubleOrNull() ?: throw BadInput("minutes is a number, not '$it'")
        }
    val usual = Schedule(mode, minutes = minutes)
    return number(words, "steps")?.let { usual.copy(steps = it) } ?: usual
}

private fun number(
    words: Map<String, String>,
    name: String,
): Int? =
    words[name]?.let {
        it.toIntOrNull() ?: throw BadInput("$name is a whole number, not '$it'")
    }

/** Whether a name leads nowhere else. */
private fun isPlain(name: String) = name.isNotEmpty() && '/' !in name && !name.startsWith(".")

/** The files of one run; each is there as a whole or not at all. */
private class Files(
    private val folder: File,
    private val name: String,
) {
    fun clear() = delete("", REFUSED, FAILED, PROGRESS, UNFINISHED)

    /** @throws BadInput it cannot be written. */
    fun write(
        ending: String,
        text: String,
    ) {
        val work = folder.resolve(name + UNFINISHED)
        try {
            folder.mkdirs()
            work.writeText(text)
            if (work.renameTo(folder.resolve(name + ending))) return
        } catch (error: IOException) {
            throw noRoom(error)
        }
        throw noRoom(null)
    }

    private fun noRoom(error: IOException?) =
        BadInput("there is no way to write to $folder; free some space there", error, Fault.NO_SPACE)

    /** The sentence of [error], which stays where it came to be if nothing can be written. */
    fun fail(
        ending: String,
        error: Exception,
    ): String {
        val sentence = error.message.orEmpty()
        delete(PROGRESS, UNFINISHED) // their room may be all that there is
        try {
            write(ending, sentence)
        } catch (_: BadInput) {
            delete(UNFINISHED)
        }
        return sentence
    }

    private fun delete(vararg endings: String) {
        for (ending in endings) folder.resolve(name + ending).delete()
    }
}
