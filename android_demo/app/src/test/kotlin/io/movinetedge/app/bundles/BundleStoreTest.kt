package io.movinetedge.app.bundles

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.app.Fixtures
import io.movinetedge.bundle.Bundle
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.io.IOException
import java.io.InputStream

/** Bundles come in whole or not at all. */
class BundleStoreTest {
    @get:Rule
    val folder = TemporaryFolder()
    private val own get() = folder.root.resolve("own")
    private val pushed get() = folder.root.resolve("pushed")
    private val zip by lazy { Fixtures.zipped(Fixtures.bundle("arnet")) }

    private inner class Inside(
        override val version: Long = 1,
    ) : BuiltIn {
        override fun names() = listOf("a.zip", "b.zip")

        override fun open(name: String): InputStream = zip.inputStream()
    }

    private fun store(version: Long = 1) = BundleStore(own, pushed, Inside(version))

    private fun refused(work: () -> Unit): Fault = assertThrows(BadInput::class.java) { work() }.fault

    private fun files() =
        own
            .walk()
            .filter { it.isFile }
            .map { it.relativeTo(own).path }
            .toSet()

    @Before
    fun folders() {
        own.mkdirs()
        pushed.mkdirs()
    }

    @Test
    fun `all kinds are listed and open`() {
        pushed.resolve("c.zip").writeBytes(zip)
        Fixtures.bundle("arnet").copyRecursively(pushed.resolve("d"))
        val imported = store().import("e.zip") { zip.inputStream() }
        val entries = store().list()
        assertEquals(listOf("a", "b", "e", "c", "d"), entries.map { it.name })
        assertEquals(imported, entries.single { it.origin == Origin.IMPORTED }.id)
        for (entry in entries) Bundle(store().path(entry.id), own).use { it.checkAll() }
        assertEquals(store().path(null), store().path("built-in/a.zip"))
    }

    @Test
    fun `what is inside the app is copied out once for each version`() {
        val first = store().path(null)
        val stamp = 1_000_000_000_000L
        first.setLastModified(stamp)
        assertEquals(stamp, store().path(null).lastModified())
        val next = store(version = 2).path(null)
        assertTrue(next.isFile && next != first && !first.exists())
    }

    @Test
    fun `a damaged one is refused and nothing is left of it`() {
        val cut = zip.copyOf(zip.size / 2)
        assertEquals(Fault.DAMAGED, refused { store().import("e.zip") { cut.inputStream() } })
        assertEquals(emptySet<String>(), files())
    }

    @Test
    fun `a newer one and a changed one are refused as such`() {
        val newer =
            Fixtures.newer(9)
        assertEquals(Fault.NEWER, refused { store().import("e.zip") { newer.inputStream() } })
        val changed =
            Fixtures.zipped(Fixtures.bundle("arnet")) { name, content ->
                if (name.endsWith(".onnx")) content.also { it[99] = (it[99] + 1).toByte() } else content
            }
        assertEquals(Fault.CHANGED, refused { store().import("e.zip") { changed.inputStream() } })
        assertEquals(emptySet<String>(), files())
    }

    @Test
    fun `a refused one does not take the place of a sound one`() {
        val id = store().import("e.zip") { zip.inputStream() }
        refused { store().import("e.zip") { "no zip".byteInputStream() } }
        Bundle(store().path(id), own).use { it.checkAll() }
        assertEquals(id, store().import("e.zip") { zip.inputStream() })
    }

    @Test
    fun `what cannot be written is a lack of space, what cannot be read is not`() {
        own.resolve("imported").writeText("a file where the folder should be")
        assertEquals(Fault.NO_SPACE, refused { store().import("e.zip") { zip.inputStream() } })
        own.resolve("imported").delete()
        val broken =
            object : InputStream() {
                override fun read(): Int = throw IOException("unplugged")
            }
        assertEquals(Fault.ABSENT, refused { store().import("e.zip") { broken } })
        assertEquals(emptySet<String>(), files())
    }

    @Test
    fun `a full disk leaves nothing behind`() {
        // A device that is always full, where the unfinished copy would lie.
        val full = File("/dev/full")
        org.junit.Assume.assumeTrue(full.exists())
        val target = own.resolve("imported").also { it.mkdirs() }.resolve("e.zip.unfinished")
        java.nio.file.Files
            .createSymbolicLink(target.toPath(), full.toPath())
        assertEquals(Fault.NO_SPACE, refused { store().import("e.zip") { zip.inputStream() } })
        assertEquals(emptySet<String>(), files())
    }

    @Test
    fun `what is gone is said`() {
        for (id in listOf("imported/x.zip", "pushed/x.zip", "built-in/x.zip", "nonsense")) {
            assertEquals(Fault.ABSENT, refused { store().path(id) })
        }
        val none =
            object : BuiltIn {
                override val version = 1L

                override fun names() = emptyList<String>()

                override fun open(name: String) = throw IOException()
            }
        assertEquals(Fault.ABSENT, refused { BundleStore(own, null, none).path(null) })
    }

    @Test
    fun `deleted ones go, built-in ones stay`() {
        val id = store().import("e.zip") { zip.inputStream() }
        pushed.resolve("c.zip").writeBytes(zip)
        store().delete(id)
        store().delete("pushed/c.zip")
        store().delete("built-in/a.zip")
        assertEquals(listOf("a", "b"), store().list().map { it.name })
    }

    @Test
    fun `documents' names lead nowhere else`() {
        for (name in listOf("../../evil.zip", "/evil.zip", ".hidden", "", "a\\b.zip", "..", "번들.zip")) {
            val id = store().import(name) { zip.inputStream() }
            val folder = store().path(id).canonicalFile.parentFile
            assertEquals(name, own.resolve("imported").canonicalFile, folder)
        }
    }
}
