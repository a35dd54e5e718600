package io.movinetedge.bundle

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.firstLine
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest
import java.util.zip.ZipFile

private const val BLOCK = 1 shl 16

/** The SHA-256 of a file, in hexadecimal. */
internal fun sha256Of(file: File): String {
    val digest = MessageDigest.getInstance("SHA-256")
    file.inputStream().use { input ->
        val block = ByteArray(BLOCK)
        while (true) {
            val count = input.read(block)
            if (count < 0) break
            digest.update(block, 0, count)
        }
    }
    return digest.digest().joinToString("") { "%02x".format(it) }
}

/**
 * Unzip the bundle [archive] into the folder [target].
 *
 * @throws BadInput no zip or a corrupt one, members that lead out of [target], or a full disk.
 */
internal fun unpack(
    archive: File,
    target: File,
) {
    try {
        ZipFile(archive).use { zip ->
            val members = zip.entries().toList()
            members.forEach { refuseOutside(archive, it.name) }
            for (member in members.filterNot { it.isDirectory }) {
                write(archive, zip.getInputStream(member), target.resolve(member.name))
            }
        }
    } catch (error: IOException) {
        throw corrupt(archive, error)
    } catch (error: IllegalArgumentException) {
        // names that are no text
        throw corrupt(archive, error)
    }
}

private fun refuseOutside(
    archive: File,
    member: String,
) {
    try {
        member.requireInside()
    } catch (_: IllegalArgumentException) {
        throw BadInput(
            "$archive is not safe to open: '$member' points outside it",
            fault = Fault.DAMAGED,
        )
    }
}

private fun write(
    archive: File,
    input: InputStream,
    target: File,
) {
    // Read first: what fails there is the archive's fault, what fails behind it is the disk's.
    val content =
        try {
            input.use { it.readBytes() }
        } catch (error: IOException) {
            throw corrupt(archive, error)
        }
    try {
        target.parentFile.mkdirs()
        target.writeBytes(content)
    } catch (error: IOException) {
        throw noSpace(archive, target.parentFile, error)
    }
}

internal fun noSpace(
    archive: File,
    folder: File,
    error: IOException,
) = BadInput(
    "$archive cannot be unpacked into $folder (${error.firstLine()}); free some space and try again",
    error,
    Fault.NO_SPACE,
)

private fun corrupt(
    archive: File,
    error: Exception,
) = BadInput(
    "$archive is not a readable bundle (no zip, or a corrupt one); copy it again or export it",
    error,
    Fault.DAMAGED,
)
