package io.movinetedge.app.bundles

import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Format
import java.io.File

/** What is told of a bundle before it runs. */
data class About(
    val name: String,
    val classes: Int,
    val height: Int,
    val width: Int,
    val frameRate: Double,
    val files: List<String>,
)

/**
 * Read what the bundle at [path] is.
 *
 * @throws io.movinetedge.BadInput it is none, or damaged.
 */
fun aboutBundle(
    path: File,
    scratch: File,
): About =
    Bundle(path, scratch).use { bundle ->
        val manifest = bundle.manifest
        val files = manifest.planned.flatMap { it.files }.filter { it.format != Format.TORCH }
        About(
            manifest.name,
            manifest.classes,
            manifest.preprocessing.height,
            manifest.preprocessing.width,
            manifest.preprocessing.frameRate,
            files.map { "${it.format.label} ${it.precision}" }.distinct(),
        )
    }
