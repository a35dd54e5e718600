package io.movinetedge.engine

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.ModelFile
import java.io.Closeable
import java.io.File

/** Tensors' memory by their names. */
public typealias Buffers = Map<String, TensorBuffer>

/** A model on certain buffers. */
public fun interface Binding {
    /** Run the model. */
    public fun run()
}

/** A loaded model. */
public interface Engine : Closeable {
    /** The library's version. */
    public val version: String

    /** Whether the delegate computes the whole graph; null where there is none, or nobody tells. */
    public val isWholeGraph: Boolean?

    /**
     * The model on these buffers, bound by tensor name. Called once for every assignment of buffers
     * that the host rotates through.
     *
     * @throws BadInput a tensor of the model has no buffer, or one of another shape or type.
     */
    public fun bind(
        inputs: Buffers,
        outputs: Buffers,
    ): Binding
}

/** Who is to compute: [threads] of the CPU, or a [delegate]; null is the engine's default. */
public data class EngineOptions(
    val threads: Int = 1,
    val delegate: String? = null,
)

/** A way to run the files of one format. */
public interface EngineFactory {
    /** As users call it. */
    public val name: String

    /** The library's name. */
    public val library: String

    /** What it runs. */
    public val format: Format

    /** The delegates that are there, the default first. */
    public val delegates: List<String>

    /**
     * Load a model.
     *
     * @throws BadInput the delegate is not there or cannot take the graph, or the file is damaged.
     */
    public fun load(
        model: File,
        file: ModelFile,
        options: EngineOptions,
    ): Engine
}

/**
 * The delegate that [options] ask for. What is not there is refused, never replaced by the CPU.
 *
 * @throws BadInput it is not there, or the number of threads makes no sense.
 */
internal fun EngineFactory.delegateOf(options: EngineOptions): String {
    if (options.threads < 1) throw BadInput("threads must be at least 1, not ${options.threads}")
    val asked = options.delegate ?: delegates.first()
    if (asked !in delegates) {
        throw BadInput(
            "$library has no delegate $asked here; it has ${delegates.joinToString()}, " +
                "of which ${delegates.first()} runs on the CPU",
            fault = Fault.NO_DELEGATE,
        )
    }
    return asked
}
