package io.movinetedge

import io.movinetedge.runtime.Phases
import io.movinetedge.runtime.ringLengths
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Test

/** How many buffers rotate, so that few assignments repeat; as in the Python runtime. */
class RingTest {
    @Test
    fun `a state has one buffer more than it has past frames`() {
        assertEquals(listOf(2, 3, 5), ringLengths(listOf(1, 2, 4), emptyList()))
    }

    @Test
    fun `many different lengths become powers of two`() {
        assertEquals(listOf(2, 4, 8, 8), ringLengths(listOf(1, 2, 4, 6), emptyList()))
        assertEquals(listOf(8), ringLengths(listOf(4), listOf(48)))
    }

    @Test
    fun `where that is not enough all are as long as the longest`() {
        assertEquals(listOf(8, 8), ringLengths(listOf(1, 4), listOf(27)))
    }

    @Test
    fun `phases are looked up by their places`() {
        val key = Phases(intArrayOf(1, 2))
        val kept = key.copy()
        assertEquals(kept, key)
        assertEquals(kept.hashCode(), key.hashCode())
        key[1] = 3
        assertNotEquals(kept, key)
    }
}
