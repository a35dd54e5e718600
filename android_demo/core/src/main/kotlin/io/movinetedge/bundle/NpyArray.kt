package io.movinetedge.bundle

import io.movinetedge.BadInput
import io.movinetedge.Fault
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipFile

private const val MAGIC = "\u0093NUMPY"
private const val HEAD = 10 // magic, version and the length of the header
private val DESCRIPTION = Regex("'descr': '([^']+)', 'fortran_order': (\\w+), 'shape': \\(([^)]*)\\)")

/** An array of NumPy: its [shape], and its values in C order behind one of the readers. */
public class NpyArray internal constructor(
    public val shape: List<Int>,
    private val type: String,
    private val data: ByteBuffer,
) {
    /** How many values it has. */
    public val size: Int get() = shape.fold(1, Int::times)

    /** The values of a uint8 or int8 array. */
    public fun bytes(): ByteArray {
        require(type == "|u1" || type == "|i1") { "an array of $type is no bytes" }
        return ByteArray(size).also { data.duplicate().get(it) }
    }

    /** The values of a float32 array. */
    public fun floats(): FloatArray {
        require(type == "<f4") { "an array of $type is no float32" }
        return FloatArray(size).also { data.asFloatBuffer().get(it) }
    }

    /** The values of an int64 array, which fit into 32 bits. */
    public fun ints(): IntArray {
        require(type == "<i8") { "an array of $type is no int64" }
        val values = data.asLongBuffer()
        return IntArray(size) { Math.toIntExact(values[it]) }
    }
}

/**
 * The arrays of an `.npz` file by name.
 *
 * @throws BadInput it is damaged.
 */
public fun readNpz(file: File): Map<String, NpyArray> =
    try {
        ZipFile(file).use { zip ->
            zip.entries().toList().associate { entry ->
                entry.name.removeSuffix(".npy") to readNpy(zip.getInputStream(entry).readBytes())
            }
        }
    } catch (error: IOException) {
        throw BadInput("$file is damaged; copy or export it again", error, Fault.DAMAGED)
    } catch (error: IllegalArgumentException) {
        throw BadInput("$file is damaged; copy or export it again", error, Fault.DAMAGED)
    }

/** @throws IllegalArgumentException not what NumPy writes in its format 1.0. */
private fun readNpy(bytes: ByteArray): NpyArray {
    require(bytes.size > HEAD) { "too short" }
    require(String(bytes, 0, MAGIC.length, Charsets.ISO_8859_1) == MAGIC) { "no magic" }
    val buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
    val length = buffer.getChar(HEAD - 2).code
    require(bytes.size >= HEAD + length) { "no header" }
    val header = String(bytes, HEAD, length, Charsets.ISO_8859_1)
    val (type, fortran, shape) = requireNotNull(DESCRIPTION.find(header)) { header }.destructured
    require(fortran == "False") { "Fortran order" }
    val sides = shape.split(",").mapNotNull { it.trim().toIntOrNull() }
    buffer.position(HEAD + length)
    val data = buffer.slice().order(ByteOrder.LITTLE_ENDIAN)
    val array = NpyArray(sides, type, data)
    val width = type.last().digitToInt()
    require(data.remaining() == array.size * width) { "${data.remaining()} bytes of $sides" }
    return array
}
