package io.movinetedge.bundle

import io.movinetedge.BadInput
import io.movinetedge.Fault
import java.io.Closeable
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

private const val MANIFEST = "manifest.json"

/**
 * An opened bundle: its manifest and its files on disk, checked against their hashes.
 *
 * A zip is unpacked into a folder of its own in [scratch], which goes when the bundle is closed.
 *
 * @param path a bundle's folder or zip.
 * @throws BadInput not a bundle, damaged, made by a newer version, or unsafe.
 */
public class Bundle(
    public val path: File,
    scratch: File = File(System.getProperty("java.io.tmpdir")),
) : Closeable {
    private val unpacked: File? = if (path.isFile) unpackInto(scratch) else null
    private val root: File = unpacked ?: path
    private val checked = HashSet<String>()

    /** What a host must know. */
    public val manifest: Manifest

    /** The classes' names, in the order of the logits. */
    public val labels: List<String>

    init {
        try {
            manifest = readManifest()
            labels = readLabels()
        } catch (error: BadInput) {
            close()
            throw error
        }
    }

    /** The hash of the manifest, in hexadecimal. */
    public val manifestSha256: String by lazy { sha256Of(root.resolve(MANIFEST)) }

    /**
     * Where a model lies, after its hash was checked once.
     *
     * @throws BadInput it is absent, or was changed.
     */
    public fun file(entry: ModelFile): File = file(entry.path, entry.sha256)

    /** The same for an attachment. */
    public fun file(entry: Attachment): File = file(entry.path, entry.sha256)

    /**
     * Check every file of the bundle against its hash.
     *
     * @throws BadInput one is absent, or was changed.
     */
    public fun checkAll() {
        manifest.graphs.flatMap { it.files }.forEach { file(it) }
        file(manifest.golden)
    }

    override fun close() {
        unpacked?.deleteRecursively()
    }

    private fun file(
        name: String,
        sha256: String,
    ): File {
        val found = root.resolve(name)
        if (!found.isFile || !found.canonicalFile.startsWith(root.canonicalFile)) {
            throw BadInput("$path lacks $name; export the bundle again", fault = Fault.DAMAGED)
        }
        if (name !in checked) {
            if (sha256Of(found) != sha256) {
                throw BadInput(
                    "$name in $path was changed or damaged (its hash differs from the manifest's); " +
                        "export or copy the bundle again",
                    fault = Fault.CHANGED,
                )
            }
            checked += name
        }
        return found
    }

    private fun unpackInto(scratch: File): File {
        val folder =
            try {
                File.createTempFile("movinet-edge-", "", scratch)
            } catch (error: IOException) {
                throw noSpace(path, scratch, error)
            }
        folder.delete()
        folder.mkdirs()
        try {
            unpack(path, folder)
        } catch (error: BadInput) {
            folder.deleteRecursively()
            throw error
        }
        return folder
    }

    private fun readManifest(): Manifest {
        if (!path.exists()) {
            throw BadInput(
                "there is no bundle at $path; write one with movinet-edge export",
                fault = Fault.ABSENT,
            )
        }
        val file = root.resolve(MANIFEST)
        if (!file.isFile) {
            throw BadInput("$path is not a bundle: it has no $MANIFEST", fault = Fault.DAMAGED)
        }
        return readManifest(file.readText(), path.toString())
    }

    private fun readLabels(): List<String> {
        val entry = manifest.labels ?: return List(manifest.classes) { "class $it" }
        val lines = utf8Lines(file(entry), entry.path)
        if (lines.size != manifest.classes) {
            throw BadInput(
                "$path has ${lines.size} labels for ${manifest.classes} classes; " +
                    "export it again with a label file of the right length",
                fault = Fault.DAMAGED,
            )
        }
        return lines
    }

    private fun utf8Lines(
        file: File,
        name: String,
    ): List<String> {
        val text =
            try {
                Charsets.UTF_8
                    .newDecoder()
                    .decode(ByteBuffer.wrap(file.readBytes()))
                    .toString()
            } catch (error: CharacterCodingException) {
                throw BadInput("$name in $path is not UTF-8 text; export it again", error, Fault.DAMAGED)
            }
        val lines = text.lines()
        return if (lines.last().isEmpty()) lines.dropLast(1) else lines
    }
}
