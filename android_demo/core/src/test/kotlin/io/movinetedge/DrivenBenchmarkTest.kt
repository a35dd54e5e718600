package io.movinetedge

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import java.io.File
import java.nio.file.Files
import java.nio.file.Path

/** Words in, files out. */
class DrivenBenchmarkTest {
    @TempDir
    lateinit var folder: File

    private val records get() = folder.resolve("records")

    private fun withBundle(vararg words: Pair<String, String>): Map<String, String> {
        val target = folder.resolve("bundles/arnet")
        if (!target.exists()) Fixtures.bundle("arnet").copyRecursively(target)
        return mapOf("bundle" to "arnet", *words)
    }

    @Test
    fun `a record comes, and what is being done is told`() {
        val said = ArrayList<String>()
        val words = withBundle("engine" to "ort", "threads" to "2", "steps" to "7", "out" to "mine")
        assertNull(drivenBenchmark(folder).run(words) { said += it })
        assertEquals(listOf("loading", "checking", "timing"), said)
        assertEquals(setOf("mine", "mine.progress"), records.list().orEmpty().toSet())
        val record = Json.parseToJsonElement(records.resolve("mine").readText()).jsonObject
        val measured =
            record
                .getValue("measurements")
                .jsonArray
                .single()
                .jsonObject
        val method = measured.getValue("method").jsonObject
        assertEquals("7", method.getValue("steps").jsonPrimitive.content)
        assertEquals("2", method.getValue("threads").jsonPrimitive.content)
        val subject = measured.getValue("subject").jsonObject
        assertEquals("onnxruntime", subject.getValue("backend").jsonPrimitive.content)
    }

    @ParameterizedTest
    @CsvSource(
        "engine, torch, this app has no engine torch; it has tflite",
        "delegate, npu, has no delegate npu here",
        "threads, many, 'threads is a whole number, not'",
        "threads, 0, threads must be at least 1",
        "mode, fast, mode is back-to-back or paced or sustained",
        "minutes, long, minutes is a number",
        "minutes, 1, minutes are for paced and sustained runs",
        "bundle, ../arnet, is a file's name in the app's own folder",
        "bundle, nothing, there is no bundle at",
        "out, /data/x, is a file's name in the app's own folder",
        "colour, red, unknown colour",
        quoteCharacter = '\'',
    )
    fun `what makes no sense is one sentence`(
        word: String,
        value: String,
        says: String,
    ) {
        val sentence = drivenBenchmark(folder).run(withBundle(word to value)).orEmpty()
        assertTrue(says in sentence, sentence)
        assertEquals(sentence, records.resolve("record.json.refused").readText())
        assertTrue(!records.resolve("record.json").exists())
    }

    @Test
    fun `wrong numbers have no record, and an old one does not pass for it`() {
        val bundle = folder.resolve("bundles/arnet")
        assertNull(drivenBenchmark(folder).run(withBundle("steps" to "3")))
        bundle.deleteRecursively()
        edited(Fixtures.bundle("ensemble"), bundle) { json ->
            json.with("plan", "combine") { JsonPrimitive("last") }
        }
        val sentence = drivenBenchmark(folder).run(withBundle()).orEmpty()
        assertTrue("computes wrong numbers" in sentence, sentence)
        assertTrue(records.resolve("record.json.failed").exists())
        assertTrue(!records.resolve("record.json").exists())
    }

    /** What is written there finds no room. */
    private fun withoutRoom(name: String) {
        records.mkdirs()
        Files.createSymbolicLink(records.resolve(name).toPath(), Path.of("/dev/full"))
    }

    @Test
    fun `no room for the record is one sentence`() {
        val sentence =
            drivenBenchmark(folder).run(withBundle("steps" to "3")) {
                // what comes after this is the record
                if (it == "timing") withoutRoom("record.json.unfinished")
            }
        assertTrue("there is no way to write to $records; free some space" in sentence.orEmpty(), sentence)
        assertEquals(setOf("record.json.refused"), records.list().orEmpty().toSet())
        assertEquals(sentence, records.resolve("record.json.refused").readText())
    }

    @Test
    fun `what goes wrong is told even where nothing can be written`() {
        records.writeText("in the way")
        val sentence = drivenBenchmark(folder).run(withBundle("engine" to "torch")).orEmpty()
        assertTrue("this app has no engine torch" in sentence, sentence)
        val other = drivenBenchmark(folder).run(withBundle()).orEmpty()
        assertTrue("there is no way to write to" in other, other)
    }
}
