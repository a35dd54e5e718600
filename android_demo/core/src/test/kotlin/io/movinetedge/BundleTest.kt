package io.movinetedge

import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Form
import io.movinetedge.bundle.Rule
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.io.File

/** Bundles are read as folders and zips, and what is wrong with one is said in one sentence. */
class BundleTest {
    @TempDir
    lateinit var folder: File

    private val source = Fixtures.bundle("arnet")

    private fun refused(path: File): String {
        val error = assertThrows(BadInput::class.java) { Bundle(path, folder).use { it.checkAll() } }
        val message = error.message.orEmpty()
        assertFalse("\n" in message, message)
        return message
    }

    private fun damaged(change: (JsonObject) -> JsonObject): String =
        refused(edited(source, folder.resolve("b"), change))

    @Test
    fun `a folder is read`() {
        Bundle(Fixtures.bundle("a0")).use { bundle ->
            bundle.checkAll()
            assertEquals(600, bundle.manifest.classes)
            assertEquals("class 599", bundle.labels.last())
            val graph = bundle.manifest.graph("step")
            assertEquals(Form.FRESH, graph.form)
            assertTrue(graph.states.any { it.rule == Rule.SHIFT })
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    fun `every kind is read`(name: String) = Bundle(Fixtures.bundle(name)).use { it.checkAll() }

    @Test
    fun `a zip is unpacked, and its folder goes when it is closed`() {
        val archive = zip(folder.resolve("b.zip"), contents(source))
        val scratch = folder.resolve("scratch").also { it.mkdirs() }
        Bundle(archive, scratch).use { bundle ->
            bundle.checkAll()
            assertEquals(1, scratch.list().orEmpty().size)
        }
        assertEquals(0, scratch.list().orEmpty().size)
    }

    @Test
    fun `nothing of a bad zip is left behind`() {
        val scratch = folder.resolve("scratch").also { it.mkdirs() }
        val archive = zip(folder.resolve("b.zip"), mapOf("other.txt" to byteArrayOf(1)))
        val error = assertThrows(BadInput::class.java) { Bundle(archive, scratch) }
        assertTrue("it has no manifest.json" in error.message.orEmpty())
        assertEquals(0, scratch.list().orEmpty().size)
    }

    @Test
    fun `a zip that leads out of its folder is refused`() {
        for (name in listOf("../evil", "/evil", "a/../../evil", "a\\evil")) {
            val archive = zip(folder.resolve("b.zip"), contents(source) + (name to byteArrayOf(1)))
            assertTrue("is not safe to open: '$name'" in refused(archive), name)
        }
        assertFalse(folder.resolve("evil").exists())
    }

    @Test
    fun `a corrupt zip is one sentence`() {
        val whole = zip(folder.resolve("b.zip"), contents(source)).readBytes()
        val cut = folder.resolve("cut.zip").also { it.writeBytes(whole.copyOf(whole.size / 2)) }
        assertTrue("no zip, or a corrupt one" in refused(cut))
        val none = folder.resolve("none.zip").also { it.writeText("text") }
        assertTrue("no zip, or a corrupt one" in refused(none))
    }

    @Test
    fun `absent things are one sentence`() {
        assertTrue("there is no bundle at" in refused(folder.resolve("nowhere")))
        val empty = folder.resolve("empty").also { it.mkdirs() }
        assertTrue("is not a bundle: it has no manifest.json" in refused(empty))
        val copy = folder.resolve("copy").also { source.copyRecursively(it) }
        copy.resolve("golden.npz").delete()
        assertTrue("lacks golden.npz; export the bundle again" in refused(copy))
    }

    @Test
    fun `a changed file is noticed by its hash`() {
        val copy = folder.resolve("copy").also { source.copyRecursively(it) }
        val model = copy.walk().first { it.extension == "onnx" }
        model.writeBytes(model.readBytes().also { it[100] = (it[100] + 1).toByte() })
        assertTrue("was changed or damaged (its hash differs" in refused(copy))
    }

    @Test
    fun `faults are told apart`() {
        fun fault(path: File) =
            assertThrows(BadInput::class.java) { Bundle(path, folder).use { it.checkAll() } }.fault
        val none = folder.resolve("none.zip").also { it.writeText("text") }
        val changed = folder.resolve("changed").also { source.copyRecursively(it) }
        changed.resolve("golden.npz").appendText("more")
        val newer = edited(source, folder.resolve("newer")) { it.with("schema_version") { JsonPrimitive(3) } }
        assertEquals(Fault.ABSENT, fault(folder.resolve("nowhere")))
        assertEquals(Fault.DAMAGED, fault(none))
        assertEquals(Fault.CHANGED, fault(changed))
        assertEquals(Fault.NEWER, fault(newer))
        val blocked = folder.resolve("blocked").also { it.writeText("no folder") }
        val zip = zip(folder.resolve("b.zip"), contents(source))
        val full = assertThrows(BadInput::class.java) { Bundle(zip, blocked) }
        assertEquals(Fault.NO_SPACE, full.fault)
    }

    @Test
    fun `a newer schema is one sentence`() {
        val message = damaged { it.with("schema_version") { JsonPrimitive(3) } }
        assertTrue("was written for schema version 3, this version reads up to 2; update the app" in message)
    }

    @ParameterizedTest
    @MethodSource("damages")
    fun `a damaged manifest is one sentence`(damage: Damage) {
        val message = damaged(damage.change)
        assertTrue("has a damaged manifest (" in message, message)
        assertTrue(damage.sentence in message, message)
    }

    @Test
    fun `text that is no JSON is one sentence`() {
        val copy = folder.resolve("copy").also { source.copyRecursively(it) }
        copy.resolve("manifest.json").writeText("{\"name\": ")
        assertTrue("has a damaged manifest" in refused(copy))
    }

    @Test
    fun `labels are as many as classes`() {
        val labels = folder.resolve("labels.txt").also { it.writeText("one\ntwo\n") }
        val copy = folder.resolve("copy")
        val hash = io.movinetedge.bundle.sha256Of(labels)
        edited(source, copy) { json ->
            json.with("labels") {
                JsonObject(mapOf("path" to JsonPrimitive("labels.txt"), "sha256" to JsonPrimitive(hash)))
            }
        }
        labels.copyTo(copy.resolve("labels.txt"))
        assertTrue("has 2 labels for 5 classes" in refused(copy))
    }

    class Damage(
        val sentence: String,
        val change: (JsonObject) -> JsonObject,
    ) {
        override fun toString() = sentence
    }

    companion object {
        @JvmStatic
        fun names() = Fixtures.answers.map { it.name }.distinct()

        private fun damage(
            sentence: String,
            vararg path: Any,
            change: (kotlinx.serialization.json.JsonElement) -> kotlinx.serialization.json.JsonElement,
        ) = Damage(sentence) { it.with(*path, change = change) }

        private val TEXT = JsonPrimitive("nothing")

        @JvmStatic
        fun damages() =
            listOf(
                damage("unknown key", "surprise") { TEXT },
                damage("Field 'golden' is required") { root -> JsonObject(root.jsonObject - "golden") },
                damage("'../out' points outside", "golden", "path") { JsonPrimitive("../out") },
                damage("waits for an action 'nothing'", "plan", "steps", 1, "when") { TEXT },
                damage("would never run (offset 7)", "plan", "steps", 0, "offset") { JsonPrimitive(7) },
                damage("the plan names a graph 'nothing'", "plan", "steps", 1, "graph") { TEXT },
                damage("no graph of the plan has the answer 'nothing'", "plan", "answer") { TEXT },
                damage("does not decide first", "plan", "steps") { steps ->
                    JsonArray(steps.jsonArray.reversed())
                },
                damage("two actions have one name", "plan", "choice", "actions", 0, "name") {
                    JsonPrimitive("nano@32")
                },
                damage("needs schema version 2", "schema_version") { JsonPrimitive(1) },
                damage("two graphs have one name", "graphs", 1, "name") { JsonPrimitive("policy") },
                damage("takes frames of", "preprocessing", "height") { JsonPrimitive(8) },
                damage("is of no state of the graph", "graphs", 0, "states") { JsonArray(emptyList()) },
                damage("the crop fraction is not in", "preprocessing", "crop_fraction") { JsonPrimitive(0) },
            )
    }
}
