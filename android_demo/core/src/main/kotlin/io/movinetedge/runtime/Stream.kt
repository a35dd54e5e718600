package io.movinetedge.runtime

import io.movinetedge.BadInput
import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.Combine
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.Manifest
import io.movinetedge.bundle.ModelFile
import io.movinetedge.bundle.PlanStep
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.EngineOptions
import io.movinetedge.preprocess.Fitter
import io.movinetedge.preprocess.Frame
import java.io.Closeable

/**
 * How to run a bundle.
 *
 * [precision] null: fp32, or the first that the bundle has for the engine. [costBias], of a model that
 * decides: times an action's cost is subtracted from its score.
 */
public data class StreamOptions(
    val precision: String? = null,
    val engine: EngineOptions = EngineOptions(),
    val costBias: Double = 0.0,
)

/**
 * One stream through a bundle: frames in, answers out, by the bundle's plan. For one thread at a time.
 *
 * After the first frames, when every assignment of buffers has come up, a step allocates nothing
 * beside what the engine does.
 *
 * @throws BadInput the bundle has no such files, the engine cannot run them, or a cost bias where
 * nothing is decided.
 */
public class Stream(
    private val bundle: Bundle,
    public val engine: EngineFactory,
    private val options: StreamOptions = StreamOptions(),
) : Closeable {
    private val manifest = bundle.manifest
    private val plan = manifest.plan
    private val chooser = chooserOf(bundle, options.costBias)
    private val fitter = Fitter(manifest.preprocessing)
    private val book = AnswerBook(manifest)
    private val answer = Answer(manifest.classes)

    /** The precision that is run. */
    public val precision: String = options.precision ?: defaultPrecision(manifest, engine.format)

    /** What the engines' calls took. */
    public val clock: EngineClock = EngineClock()
    private val runners: Map<String, GraphRunner> = open()
    private val turns = plan.steps.map { Turn(it, runners.getValue(it.graph)) }.toTypedArray()
    private var number = 0
    private var isPartial = false
    private var isClosed = false
    private var hasEnded = false

    /** The engine's version. */
    public val version: String get() = runners.values.first().version

    /** The files that run, by their graphs. */
    public val files: Map<String, ModelFile> get() = runners.mapValues { it.value.file }

    /** Whether the engine's delegate computes all of a graph, by graph; null where nobody tells. */
    public val wholeGraphs: Map<String, Boolean?> get() = runners.mapValues { it.value.isWholeGraph }

    /** The scores of the last decision, where the model decides. */
    public val scores: FloatArray? get() = chooser?.scores

    /**
     * Take the next frame, of any size.
     *
     * Returns the answer so far; null while none is complete. It is the stream's own object, which the
     * next step changes.
     *
     * @throws IllegalStateException the stream is closed, or has ended.
     */
    public fun step(frame: Frame): Answer? {
        check(!isClosed) { "the stream is closed" }
        check(!hasEnded) { "the stream has ended; reset it first" }
        fitter.show(frame)
        return stepShown()
    }

    /**
     * The final answer; null if no frame came.
     *
     * A model that looks ahead takes the steps that complete its answer, and ends the stream. A first
     * clip that ended early is completed by repeating its last frame. Where the plan answers now and
     * then only, it answers for the last frame.
     */
    public fun finish(): Answer? {
        if (plan.delay > 0 && number > 0 && !hasEnded) flush()
        while (isPartial && book.isEmpty) {
            fitter.show(null)
            stepShown()
        }
        if (!book.isEmpty) renew(number - 1)
        val answered = !book.isEmpty || (plan.combine == Combine.LOOKS && number > 0)
        return if (answered) predict(number - 1) else null
    }

    /** Begin a new stream. */
    public fun reset() {
        runners.values.forEach { it.reset() }
        book.reset()
        chooser?.reset()
        hasEnded = false
        isPartial = false
        number = 0
    }

    /** Release the engines. */
    override fun close() {
        if (isClosed) return
        isClosed = true
        runners.values.forEach { it.close() }
    }

    private fun open(): Map<String, GraphRunner> {
        val features = featureRings(manifest)
        val opened = LinkedHashMap<String, GraphRunner>()
        try {
            for (graph in manifest.planned) {
                opened[graph.name] =
                    GraphRunner(bundle, graph, engine, precision, options.engine, features, clock)
            }
        } catch (error: BadInput) {
            opened.values.forEach { it.close() }
            throw error
        }
        return opened
    }

    private fun stepShown(): Answer? {
        val now = number
        for (turn in turns) {
            if (isDue(turn.step, now) && isFilled(turn, now)) {
                turn.runner.run()
                decide(turn)
                book.take(turn.runner)
            }
        }
        number = now + 1
        return answered(now)
    }

    /** Whether a graph runs at frame [now]; of a choice, once that has been made. */
    private fun isDue(
        step: PlanStep,
        now: Int,
    ): Boolean {
        if (now % step.every != step.offset) return false
        if (chooser == null) return true
        if (step.graph == chooser.choice.graph) {
            return !chooser.holds || chooser.choice.goingOn.isNotEmpty()
        }
        return step.`when` == null || step.`when` == chooser.action.name
    }

    /** Put the frame into the graph's clip, if it takes frames; whether that is now complete. */
    private fun isFilled(
        turn: Turn,
        now: Int,
    ): Boolean {
        val input = turn.runner.frame ?: return true
        val position = now / turn.step.every % turn.runner.graph.frames
        fitter.fill(input, position)
        isPartial = position + 1 < turn.runner.graph.frames
        return !isPartial
    }

    private fun decide(turn: Turn) {
        if (chooser == null || turn.step.graph != chooser.choice.graph) return
        if (chooser.holds) {
            turn.runner.hold(chooser.choice.goingOn)
        } else {
            turn.runner.read(chooser.choice.output, chooser.scores)
            chooser.decide()
        }
    }

    /** The answer after a frame's graphs have run, if there is one. */
    private fun answered(now: Int): Answer? {
        if (plan.combine == Combine.LOOKS) {
            if (chooser == null || chooser.action.skip == 0) book.look()
        } else if (book.isEmpty || now < plan.delay) {
            return null
        }
        predict(now)
        chooser?.endFrame()
        return answer
    }

    private fun predict(now: Int): Answer {
        answer.frame = now
        if (chooser != null) {
            answer.action = chooser.number
            answer.actionName = chooser.action.name
        }
        book.combined(answer.logits)
        return answer
    }

    /** Answer for frame [now], the last, where the plan's turn to answer was before it. */
    private fun renew(now: Int) {
        for (turn in turns) {
            // Without states and frames of its own it may run again on what others made.
            val repeats = turn.runner.rings.isEmpty() && turn.runner.frame == null
            if (repeats && now % turn.step.every != turn.step.offset) {
                turn.runner.run()
                book.take(turn.runner)
            }
        }
    }

    /** The steps behind the last frame. */
    private fun flush() {
        runners.values.filter { it.isToldOfTheEnd }.forEach { it.end() }
        repeat(plan.delay) {
            fitter.showNothing()
            stepShown()
        }
        number -= plan.delay
        hasEnded = true
    }
}

private class Turn(
    val step: PlanStep,
    val runner: GraphRunner,
)

private fun chooserOf(
    bundle: Bundle,
    costBias: Double,
): Chooser? {
    val choice = bundle.manifest.plan.choice
    if (choice == null && costBias != 0.0) {
        throw BadInput("${bundle.path} decides nothing; leave out the cost bias")
    }
    return choice?.let { Chooser(it, costBias) }
}

private fun defaultPrecision(
    manifest: Manifest,
    format: Format,
): String {
    val held =
        manifest.planned
            .first()
            .files
            .filter { it.format == format }
            .map { it.precision }
    return if ("fp32" in held) "fp32" else held.firstOrNull() ?: "fp32"
}
