package io.movinetedge

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** A copy of a bundle whose manifest [change] has changed. */
fun edited(
    source: File,
    target: File,
    change: (JsonObject) -> JsonObject,
): File {
    source.copyRecursively(target)
    val manifest = target.resolve("manifest.json")
    val json = Json.parseToJsonElement(manifest.readText()).jsonObject
    manifest.writeText(change(json).toString())
    return target
}

/** The same object with the value at [path] changed; a path goes through objects and arrays. */
fun JsonElement.at(
    vararg path: Any,
    change: (JsonElement) -> JsonElement,
): JsonElement {
    if (path.isEmpty()) return change(this)
    val rest = path.copyOfRange(1, path.size)
    return when (val key = path.first()) {
        is String -> {
            val old = jsonObject[key] ?: JsonPrimitive(null as String?)
            JsonObject(jsonObject + (key to old.at(*rest, change = change)))
        }

        is Int -> {
            JsonArray(
                jsonArray.mapIndexed { i, old ->
                    if (i ==
                        key
                    ) {
                        old.at(*rest, change = change)
                    } else {
                        old
                    }
                },
            )
        }

        else -> {
            error("no key: $key")
        }
    }
}

fun JsonObject.with(
    vararg path: Any,
    change: (JsonElement) -> JsonElement,
): JsonObject = at(*path, change = change).jsonObject

/** Zip a folder's files, or others by their names in the archive. */
fun zip(
    target: File,
    files: Map<String, ByteArray>,
): File {
    ZipOutputStream(target.outputStream()).use { out ->
        for ((name, content) in files) {
            out.putNextEntry(ZipEntry(name))
            out.write(content)
            out.closeEntry()
        }
    }
    return target
}

/** The files of a folder by their paths in it. */
fun contents(folder: File): Map<String, ByteArray> =
    folder.walk().filter { it.isFile }.associate { it.relativeTo(folder).path to it.readBytes() }
