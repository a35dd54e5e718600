package io.movinetedge.app.bundles

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.Bundle
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream

private const val BUILT_IN = "built-in"
private const val IMPORTED = "imported"
private const val PUSHED = "pushed"
private const val UNFINISHED = ".unfinished"
private const val BLOCK = 1 shl 16

/** Bundles that come inside the app. */
interface BuiltIn {
    /** The zips' names; the first is the default. */
    fun names(): List<String>

    /** @throws IOException it cannot be read. */
    fun open(name: String): InputStream

    /** Changes when the app is updated. */
    val version: Long
}

/** A bundle that can be chosen; [id] stays the same from start to start. */
data class Entry(
    val id: String,
    val name: String,
    val origin: Origin,
)

enum class Origin { BUILT_IN, IMPORTED, PUSHED }

/**
 * The bundles that there are: inside the app, imported from elsewhere, or pushed over adb.
 *
 * @param own a folder of the app's own.
 * @param pushed where adb pushes zips and folders; null where there is no such storage.
 */
class BundleStore(
    private val own: File,
    private val pushed: File?,
    private val builtIn: BuiltIn,
) {
    private val imported = own.resolve(IMPORTED)
    private val unpacked = own.resolve(BUILT_IN).resolve(builtIn.version.toString())

    /** All of them, the built-in ones first. */
    fun list(): List<Entry> =
        builtIn.names().map { entry(BUILT_IN, it, Origin.BUILT_IN) } +
            children(imported).map { entry(IMPORTED, it.name, Origin.IMPORTED) } +
            children(pushed).map { entry(PUSHED, it.name, Origin.PUSHED) }

    /**
     * Where the bundle [id] lies, null being the default one. What is inside the app is copied out
     * first, once for each version of the app.
     *
     * @throws BadInput it is not there any more, or there is no space for it.
     */
    fun path(id: String?): File {
        val asked = id ?: "$BUILT_IN/${builtIn.names().firstOrNull() ?: throw absent(BUILT_IN)}"
        val name = asked.substringAfter("/")
        val found =
            when (asked.substringBefore("/")) {
                BUILT_IN -> if (name in builtIn.names()) copiedOut(name) else null
                IMPORTED -> imported.resolve(name)
                PUSHED -> pushed?.resolve(name)
                else -> null
            }
        return found?.takeIf { it.exists() } ?: throw absent(name)
    }

    /**
     * Keep the zip that [source] opens, after all of it was checked; its new id. A bundle of the same
     * [name] is replaced. Nothing is left behind of one that is refused.
     *
     * @throws BadInput it is not a sound bundle, or there is no space for it.
     */
    fun import(
        name: String,
        source: () -> InputStream,
    ): String {
        val target = imported.resolve(safe(name))
        write(target, source) { Bundle(it, own).use(Bundle::checkAll) }
        return "$IMPORTED/${target.name}"
    }

    /** Forget an imported or pushed bundle. */
    fun delete(id: String) {
        val folder = if (id.startsWith(IMPORTED)) imported else pushed
        folder?.resolve(id.substringAfter("/"))?.deleteRecursively()
    }

    private fun copiedOut(name: String): File {
        val target = unpacked.resolve(name)
        if (!target.exists()) {
            // what older versions of the app have left
            unpacked.parentFile
                ?.listFiles()
                .orEmpty()
                .filter { it != unpacked }
                .forEach { it.deleteRecursively() }
            write(target, { builtIn.open(name) }) {}
        }
        return target
    }

    private fun write(
        target: File,
        source: () -> InputStream,
        check: (File) -> Unit,
    ) {
        val folder = target.absoluteFile.parentFile ?: own
        val work = folder.resolve(target.name + UNFINISHED)
        try {
            folder.mkdirs()
            copy(target.name, source, work)
            check(work)
            if (!work.renameTo(target)) throw noSpace(target.name, null)
        } finally {
            work.delete()
        }
    }

    private fun copy(
        name: String,
        source: () -> InputStream,
        work: File,
    ) {
        // Which side failed tells what to do about it.
        reading(name) { source() }.use { input ->
            writing(name) { work.outputStream() }.use { output -> pump(name, input, output) }
        }
    }

    private fun pump(
        name: String,
        input: InputStream,
        output: OutputStream,
    ) {
        val block = ByteArray(BLOCK)
        while (true) {
            val count = reading(name) { input.read(block) }
            if (count < 0) break
            writing(name) { output.write(block, 0, count) }
        }
        writing(name) { output.flush() }
    }
}

private inline fun <T> reading(
    name: String,
    work: () -> T,
): T =
    try {
        work()
    } catch (error: IOException) {
        throw BadInput("$name cannot be read; choose it again", error, Fault.ABSENT)
    }

private inline fun <T> writing(
    name: String,
    work: () -> T,
): T =
    try {
        work()
    } catch (error: IOException) {
        throw noSpace(name, error)
    }

private fun children(folder: File?): List<File> =
    folder
        ?.listFiles()
        .orEmpty()
        .filterNot { it.name.endsWith(UNFINISHED) || it.name.startsWith(".") }
        .sortedBy { it.name }

private fun entry(
    folder: String,
    name: String,
    origin: Origin,
) = Entry("$folder/$name", name.removeSuffix(".zip"), origin)

private fun absent(name: String) =
    BadInput("the bundle $name is not there any more; choose another one", fault = Fault.ABSENT)

private fun noSpace(
    name: String,
    error: Exception?,
) = BadInput("there is no space for $name; free some and try again", error, Fault.NO_SPACE)

/** A file's name of what another app calls its document. */
internal fun safe(name: String): String {
    val plain = name.substringAfterLast("/").map { if (it.isLetterOrDigit() || it in "-_. ") it else '_' }
    return plain
        .joinToString("")
        .trim()
        .trimStart('.')
        .ifEmpty { "bundle.zip" }
}
