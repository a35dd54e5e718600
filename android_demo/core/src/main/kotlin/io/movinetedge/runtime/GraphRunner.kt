package io.movinetedge.runtime

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.Graph
import io.movinetedge.bundle.ModelFile
import io.movinetedge.bundle.Role
import io.movinetedge.bundle.TensorSpec
import io.movinetedge.engine.Binding
import io.movinetedge.engine.Engine
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.engine.TensorBuffer
import io.movinetedge.preprocess.FrameInput
import java.io.Closeable

/** Nanoseconds spent in engines since it was last set to 0, and how many assignments were bound. */
public class EngineClock internal constructor() {
    public var nanos: Long = 0
    public var binds: Int = 0
        internal set
}

/**
 * Runs a graph step by step on one engine. States rotate by exchanging buffers, never by copying.
 *
 * [frame] is its input for frames (null where it takes only features). [features] are shared between
 * the graphs of a plan by name.
 */
internal class GraphRunner(
    bundle: Bundle,
    val graph: Graph,
    factory: EngineFactory,
    precision: String,
    options: EngineOptions,
    features: Map<String, FeatureRing>,
    private val clock: EngineClock,
) : Closeable {
    /** Whether the engine's delegate computes the whole graph; null where nobody tells. */
    val isWholeGraph: Boolean? get() = engine.isWholeGraph
    val file = findFile(graph, factory.format, precision)
    private val inputs = HashMap<String, TensorBuffer>()
    private val outputs = HashMap<String, TensorBuffer>()
    private val read = HashMap<String, AgedFeature>()
    private val written = HashMap<String, FeatureRing>()
    private val valid: TensorBuffer?
    private val bindings = HashMap<Phases, Binding>()
    private val turns: Array<FeatureRing>
    private val made: Array<FeatureRing>
    private val phases: Phases
    private val period: Int
    private val engine: Engine
    val rings: List<StateRing> = stateRings(graph, file)
    val frame: FrameInput?
    var steps = 0
        private set

    init {
        var frameBuffer: TensorBuffer? = null
        var validBuffer: TensorBuffer? = null
        for (spec in file.inputs) {
            if (spec.role == Role.FRAME) frameBuffer = inputs.put(spec)
            if (spec.role == Role.VALID) validBuffer = inputs.put(spec)
            if (spec.role == Role.FEATURE) {
                read[spec.name] = AgedFeature(features.of(spec), spec.age ?: 0)
            }
        }
        for (spec in file.outputs) {
            if (spec.role == Role.OUTPUT) outputs.put(spec)
            if (spec.role == Role.FEATURE) written[spec.name] = features.of(spec)
        }
        frame = frameBuffer?.let(::FrameInput)
        valid = validBuffer
        made = written.values.toTypedArray()
        turns = (read.values.map { it.ring } + made).distinct().toTypedArray()
        val lengths = ringLengths(rings.map { it.past }, turns.map { it.length })
        rings.zip(lengths) { ring, length -> ring.allocate(length) }
        period = period(lengths).toInt()
        phases = Phases(IntArray(turns.size + 1))
        reset()
        engine = factory.load(bundle.file(file), file, options) // last: nothing has to be undone
    }

    /** The engine's version. */
    val version: String get() = engine.version

    /** Whether it takes part in completing a stream. */
    val isToldOfTheEnd: Boolean get() = valid != null

    /** Whether it answers under that name. */
    fun answers(output: String): Boolean = output in outputs

    /** One step on what the inputs hold now; outputs and states are new afterwards. */
    fun run() {
        phases[0] = steps % period
        for (i in turns.indices) phases[i + 1] = turns[i].phase
        val binding = bindings[phases] ?: bind()
        val start = System.nanoTime()
        binding.run()
        clock.nanos += System.nanoTime() - start
        steps++
        for (ring in made) ring.runs++
    }

    /** Undo the last run for all states but those [goingOn]; each is of one value. */
    fun hold(goingOn: List<String>) {
        for (i in rings.indices) {
            val ring = rings[i]
            if (ring.rule.name in goingOn) continue
            ring.writtenAt(steps - 1).copyFrom(ring.readAt(steps - 1, 0))
        }
    }

    /** Write the newest values of an output to [target], from the value number [offset] on. */
    fun read(
        output: String,
        target: FloatArray,
        offset: Int = 0,
    ) {
        outputs.getValue(output).read(target, offset)
    }

    /** How many values an output has. */
    fun sizeOf(output: String): Int = outputs.getValue(output).size

    /** Tell the graph that no frames come any more. */
    fun end() {
        valid?.fill(0.0)
    }

    /** Forget the stream, and what was handed to other graphs. */
    fun reset() {
        steps = 0
        valid?.fill(1.0)
        for (ring in made) ring.reset()
        for (ring in rings) ring.reset()
    }

    override fun close() {
        bindings.clear()
        engine.close()
    }

    private fun bind(): Binding {
        val fed = HashMap(inputs)
        val fetched = HashMap(outputs)
        for ((name, feature) in read) fed[name] = feature.ring.aged(feature.age)
        for ((name, ring) in written) fetched[name] = ring.next
        for (ring in rings) {
            ring.inputs.forEachIndexed { slot, spec -> fed[spec.name] = ring.readAt(steps, slot) }
            fetched[ring.output.name] = ring.writtenAt(steps)
        }
        clock.binds++
        return engine.bind(fed, fetched).also { bindings[phases.copy()] = it }
    }
}

private class AgedFeature(
    val ring: FeatureRing,
    val age: Int,
)

private fun HashMap<String, TensorBuffer>.put(spec: TensorSpec) =
    TensorBuffer(spec).also { this[spec.name] = it }

private fun Map<String, FeatureRing>.of(spec: TensorSpec): FeatureRing {
    val ring =
        get(spec.featureName)
            ?: throw BadInput("no graph of the plan makes the feature '${spec.featureName}'")
    return ring.also { it.allocate(spec) }
}

/**
 * The graph's file of a format and precision.
 *
 * @throws BadInput the bundle holds none.
 */
internal fun findFile(
    graph: Graph,
    format: Format,
    precision: String,
): ModelFile =
    graph.files.firstOrNull { it.format == format && it.precision == precision }
        ?: throw BadInput(
            "the bundle has no $precision ${format.label} file (it holds " +
                graph.files.joinToString { "${it.format.label} ${it.precision}" } +
                "); export it with --format ${format.label} --precision $precision",
            fault = Fault.NO_FILE,
        )
