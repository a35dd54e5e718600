package io.movinetedge

import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.ModelFile
import io.movinetedge.bundle.Role
import io.movinetedge.check.GoldenResult
import io.movinetedge.check.checkGolden
import io.movinetedge.engine.Binding
import io.movinetedge.engine.Buffers
import io.movinetedge.engine.Engine
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TensorBuffer
import io.movinetedge.runtime.Stream
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File

/** What makes the golden check fail: plans, states and buffers that are not as they should be. */
class MutationTest {
    @TempDir
    lateinit var folder: File

    private fun check(
        path: File,
        engine: EngineFactory = OrtEngines,
    ): GoldenResult = Bundle(path).use { bundle -> Stream(bundle, engine).use { checkGolden(bundle, it) } }

    private fun mutated(
        name: String,
        change: (JsonObject) -> JsonObject,
    ): GoldenResult = check(edited(Fixtures.bundle(name), folder.resolve(name), change))

    private fun assertFails(result: GoldenResult) {
        assertFalse(result.holds)
        assertTrue(result.problems.first().startsWith("error "), result.problems.toString())
    }

    @Test
    fun `the originals pass`() {
        for (name in listOf("a0", "a0-carry", "ensemble", "slowfast")) {
            assertEquals(emptyList<String>(), check(Fixtures.bundle(name)).problems, name)
        }
    }

    @Test
    fun `a plan whose graphs take turns the other way round`() {
        val result =
            mutated("ensemble") { json ->
                json.with("plan", "steps") { steps ->
                    JsonArray(
                        steps.jsonArray.map {
                            it.at("offset") { old ->
                                JsonPrimitive(1 - old.jsonPrimitive.int)
                            }
                        },
                    )
                }
            }
        assertFails(result)
    }

    @Test
    fun `a plan that takes the last answer instead of the mean`() {
        assertFails(mutated("ensemble") { it.with("plan", "combine") { JsonPrimitive("last") } })
    }

    @Test
    fun `a plan that answers a frame early`() {
        val result =
            mutated("slowfast") { json ->
                json.with("plan", "delay") { JsonPrimitive(it.jsonPrimitive.int - 1) }
            }
        assertEquals(listOf("33 answers, of which the reference has 32"), result.problems)
    }

    @Test
    fun `two states exchanged`() {
        assertFails(mutated("a0") { json -> json.withFiles(::swapTwins) })
    }

    @Test
    fun `past frames in the wrong order`() {
        assertFails(mutated("a0") { json -> json.withFiles(::reverseSlots) })
    }

    @Test
    fun `a state that begins elsewhere`() {
        val result =
            mutated("a0") { json ->
                json.with("graphs", 0, "states") { states ->
                    JsonArray(states.jsonArray.map { it.at("initial") { JsonPrimitive(1.0) } })
                }
            }
        assertFails(result)
    }

    @Test
    fun `a stale buffer, whichever it is`() {
        val path = Fixtures.bundle("a0-head")
        val states =
            Bundle(path).use { bundle ->
                val files = bundle.manifest.planned.flatMap { it.files }
                files
                    .filter {
                        it.format == Format.ONNX
                    }.flatMap { it.inputs }
                    .filter { it.role == Role.STATE }
            }
        assertTrue(states.size > 20)
        val unnoticed = states.map { it.name }.filter { check(path, StaleEngines(it)).holds }
        assertEquals(emptyList<String>(), unnoticed)
    }

    @Test
    fun `tensors in another order are bound by name`() {
        val result =
            mutated("a0") { json ->
                json.withFiles { file ->
                    file
                        .with("inputs") { JsonArray(it.jsonArray.reversed()) }
                        .with("outputs") { JsonArray(it.jsonArray.reversed()) }
                }
            }
        assertEquals(emptyList<String>(), result.problems)
    }
}

private fun JsonObject.withFiles(change: (JsonObject) -> JsonObject): JsonObject =
    with("graphs") { graphs ->
        JsonArray(
            graphs.jsonArray.map { graph ->
                graph.at("files") { files -> JsonArray(files.jsonArray.map { change(it.jsonObject) }) }
            },
        )
    }

private fun JsonElement.text(field: String) = jsonObject.getValue(field).jsonPrimitive.content

private fun JsonElement.isState() = text("role") == "state"

/** The inputs of two states of the same shapes get each other's names. */
private fun swapTwins(file: JsonObject): JsonObject {
    val inputs = file.getValue("inputs").jsonArray
    val kinds = inputs.filter { it.isState() }.groupBy({ it.text("state") }, { it.jsonObject["shape"] })
    val (one, other) =
        kinds.keys.firstNotNullOf { a ->
            kinds.keys
                .firstOrNull { b ->
                    a != b && kinds[a] == kinds[b] &&
                        kinds
                            .getValue(a)
                            .first()!!
                            .jsonArray.size == 4
                }?.let { b -> a to b }
        }

    fun named(state: String) =
        inputs.filter { it.isState() && it.text("state") == state }.map { it.text("name") }
    val names = (named(one) zip named(other)).flatMap { (a, b) -> listOf(a to b, b to a) }.toMap()
    return file.with("inputs") { old ->
        JsonArray(
            old.jsonArray.map { input ->
                input.at("name") {
                    JsonPrimitive(names[input.text("name")] ?: input.text("name"))
                }
            },
        )
    }
}

/** Slot 0 becomes the newest. */
private fun reverseSlots(file: JsonObject): JsonObject {
    val inputs = file.getValue("inputs").jsonArray
    val last = inputs.filter { it.isState() }.groupingBy { it.text("state") }.eachCount()
    return file.with("inputs") { old ->
        JsonArray(
            old.jsonArray.map { input ->
                if (!input.isState() || input.jsonObject["slot"]?.jsonPrimitive?.content == "null") {
                    input
                } else {
                    input.at("slot") {
                        JsonPrimitive(last.getValue(input.text("state")) - 1 - it.jsonPrimitive.int)
                    }
                }
            },
        )
    }
}

/** An engine that reads [state] from the buffer of the first step, as a host that forgets to rotate. */
private class StaleEngines(
    private val state: String,
) : EngineFactory by OrtEngines {
    override fun load(
        model: File,
        file: ModelFile,
        options: EngineOptions,
    ): Engine {
        val engine = OrtEngines.load(model, file, options)
        return object : Engine by engine {
            private var first: TensorBuffer? = null

            override fun bind(
                inputs: Buffers,
                outputs: Buffers,
            ): Binding {
                val stale = first ?: inputs[state].also { first = it }
                return engine.bind(if (stale == null) inputs else inputs + (state to stale), outputs)
            }
        }
    }
}
