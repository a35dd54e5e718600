package io.movinetedge.bundle

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.firstLine
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.intOrNull

/**
 * The manifest in [text]; [bundle] is what messages call where it lies.
 *
 * @throws BadInput made by a newer version, or damaged.
 */
public fun readManifest(
    text: String,
    bundle: String,
): Manifest {
    try {
        val json = Json.parseToJsonElement(text)
        refuseNewer(json, bundle)
        return Json.decodeFromJsonElement(Manifest.serializer(), json).also { it.check() }
    } catch (error: IllegalArgumentException) {
        // the parser's exceptions are of this kind
        throw BadInput(
            "$bundle has a damaged manifest (${error.firstLine()}); export it again",
            error,
            Fault.DAMAGED,
        )
    }
}

private fun refuseNewer(
    json: JsonElement,
    bundle: String,
) {
    val stated = (json as? JsonObject)?.get("schema_version") ?: return
    if ((stated as? JsonPrimitive)?.intOrNull !in 1..SCHEMA_VERSION) {
        throw BadInput(
            "$bundle was written for schema version $stated, this version reads up to " +
                "$SCHEMA_VERSION; update the app",
            fault = Fault.NEWER,
        )
    }
}
