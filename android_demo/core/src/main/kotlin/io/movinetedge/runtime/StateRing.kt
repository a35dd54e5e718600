package io.movinetedge.runtime

import io.movinetedge.BadInput
import io.movinetedge.bundle.Graph
import io.movinetedge.bundle.ModelFile
import io.movinetedge.bundle.Rule
import io.movinetedge.bundle.StateRule
import io.movinetedge.bundle.TensorSpec
import io.movinetedge.engine.TensorBuffer

// States with different rings repeat together after the least common multiple of their lengths. Up to
// this many assignments are bound; beyond, lengths are rounded up to powers of two, and if that is not
// enough, every ring gets the longest one's.
private const val MAX_PERIOD = 64

/** The buffers of one state: its [inputs], oldest first, then the one to be written. */
internal class StateRing(
    val rule: StateRule,
    val inputs: List<TensorSpec>,
    val output: TensorSpec,
) {
    lateinit var buffers: Array<TensorBuffer>
        private set

    /** How many values there are before the new one. */
    val past: Int get() = if (rule.rule == Rule.DELAY) rule.past else inputs.size

    fun allocate(length: Int) {
        buffers = Array(length) { TensorBuffer(output) }
    }

    /** What input [slot] reads at run number [run]. */
    fun readAt(
        run: Int,
        slot: Int,
    ): TensorBuffer = buffers[Math.floorMod(run + slot, buffers.size)]

    /** What is written at run number [run]. */
    fun writtenAt(run: Int): TensorBuffer = buffers[Math.floorMod(run + past, buffers.size)]

    fun reset() {
        for (buffer in buffers) buffer.fill(initial)
    }

    /** The first value, as it is stored. */
    private val initial: Double
        get() {
            val known = output.quantization ?: return rule.initial
            return Math.rint(rule.initial / known.scale) + known.zeroPoint
        }
}

/**
 * The rings of a graph's states in one of its files, yet without buffers.
 *
 * @throws BadInput the manifest does not say how a state is bound.
 */
internal fun stateRings(
    graph: Graph,
    file: ModelFile,
): List<StateRing> =
    graph.states.map { rule ->
        val slots = file.inputs.filter { it.state == rule.name }.sortedBy { it.slot ?: 0 }
        val outputs = file.outputs.filter { it.state == rule.name }
        if (slots.isEmpty() || outputs.size != 1) {
            throw BadInput("the manifest does not say how state '${rule.name}' is bound")
        }
        val output = outputs.single()
        if (slots.any { !it.isLike(output) }) {
            throw BadInput(
                "the manifest gives state '${rule.name}' more than one shape, type or scale",
            )
        }
        StateRing(rule, slots, output)
    }

/** Whether buffers of both may change places. */
private fun TensorSpec.isLike(other: TensorSpec) =
    shape == other.shape && dtype == other.dtype && quantization == other.quantization

/**
 * How many buffers each state needs, given its number of [pasts]; [others] are the lengths of the
 * rings of features that rotate beside them.
 */
internal fun ringLengths(
    pasts: List<Int>,
    others: List<Int>,
): List<Int> {
    fun fits(lengths: List<Int>) = period(lengths + others) <= MAX_PERIOD
    val exact = pasts.map { it + 1 }
    if (fits(exact)) return exact
    val rounded = exact.map { it.roundedUp() }
    if (fits(rounded)) return rounded
    return List(pasts.size) { rounded.max() }
}

/** After how many runs rings of these lengths repeat together; a Long, for it may be large. */
internal fun period(lengths: List<Int>): Long =
    lengths.fold(1L) { all, length ->
        var (a, b) = all to length.toLong()
        while (b != 0L) a = b.also { b = a % b }
        all / a * length
    }

/** The next power of two. */
private fun Int.roundedUp(): Int = if (this <= 1) 1 else Integer.highestOneBit(this - 1) shl 1
