package io.movinetedge.engine

import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.ModelFile
import io.movinetedge.firstLine
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.TensorFlowLite
import java.io.File

private const val SIGNATURE = "serving_default"
private const val XNNPACK = "xnnpack"
private const val PLAIN = "none"
private const val PLAN_LENGTH = "getExecutionPlanLength"

/** Makes an accelerator's delegate anew for each model. */
public typealias DelegateMaker = () -> Delegate

/**
 * TensorFlow Lite: inputs are read in place, outputs are copied by the interpreter.
 *
 * @param accelerators delegates by name that the app brings along, such as nnapi and gpu.
 */
public class TfliteEngines(
    private val accelerators: Map<String, DelegateMaker> = emptyMap(),
) : EngineFactory {
    override val name: String = "tflite"
    override val library: String = "TensorFlow Lite"
    override val format: Format = Format.TFLITE
    override val delegates: List<String> = listOf(XNNPACK, PLAIN) + accelerators.keys

    override fun load(
        model: File,
        file: ModelFile,
        options: EngineOptions,
    ): Engine {
        val asked = delegateOf(options)
        val delegate = refusing(file, asked) { accelerators[asked]?.invoke() }
        val engine =
            refusing(file, asked, delegate) {
                TfliteEngine(model, file, options.threads, asked, delegate)
            }
        if (delegate != null && engine.isWholeGraph != true) {
            engine.close()
            throw BadInput(
                "$asked does not take all of ${file.path}, and the rest would run on the CPU unseen; " +
                    "export the bundle for accelerators (--profile), or use ${delegates.first()}",
                fault = Fault.REFUSED,
            )
        }
        return engine
    }

    /** What the library and its delegates throw, as a sentence; the [delegate] is then released. */
    private fun <T> refusing(
        file: ModelFile,
        asked: String,
        delegate: Delegate? = null,
        work: () -> T,
    ): T {
        fun refuse(error: Throwable): Nothing {
            release(delegate)
            val words = "$name cannot load ${file.path} on $asked: ${error.firstLine()}"
            throw BadInput(words, error, Fault.REFUSED)
        }
        return try {
            work()
        } catch (error: IllegalArgumentException) {
            refuse(error)
        } catch (error: IllegalStateException) {
            refuse(error)
        } catch (error: UnsupportedOperationException) {
            refuse(error)
        } catch (error: LinkageError) {
            // a delegate whose native library is not there
            refuse(error)
        }
    }
}

// Of the interpreter only what has not changed since 2.6 is used: its tensors were a class then.
private class TfliteEngine(
    model: File,
    private val file: ModelFile,
    threads: Int,
    private val asked: String,
    private val delegate: Delegate?,
) : Engine {
    private val interpreter = Interpreter(model, options(threads, asked == XNNPACK, delegate))
    private val inputs = interpreter.getSignatureInputs(SIGNATURE).toSet()
    private val outputs = interpreter.getSignatureOutputs(SIGNATURE).toSet()

    override val version: String get() = TensorFlowLite.runtimeVersion()

    /** A graph that a delegate took as a whole is one node that stands for it. */
    override val isWholeGraph: Boolean? =
        if (asked == PLAIN) null else planLength(interpreter)?.let { it == 1 }

    override fun bind(
        inputs: Buffers,
        outputs: Buffers,
    ): Binding {
        checkNames("input", this.inputs, inputs)
        checkNames("output", this.outputs, outputs)
        val fed = inputs.mapValues { it.value.bytes as Any }
        val fetched = outputs.mapValues { it.value.bytes as Any }
        val written = outputs.values.map { it.bytes }.toTypedArray()
        return Binding {
            // The interpreter writes where a buffer stands.
            for (buffer in written) buffer.rewind()
            run(fed, fetched)
        }
    }

    private fun run(
        inputs: Map<String, Any>,
        outputs: Map<String, Any>,
    ) {
        try {
            interpreter.runSignature(inputs, outputs, SIGNATURE)
        } catch (error: IllegalArgumentException) {
            // sizes that are not the model's, or its delegate
            throw BadInput("tflite cannot run ${file.path}: ${error.firstLine()}", error, Fault.REFUSED)
        }
    }

    override fun close() {
        interpreter.close()
        release(delegate)
    }
}

private fun options(
    threads: Int,
    xnnpack: Boolean,
    delegate: Delegate?,
) = Interpreter.Options().apply {
    setNumThreads(threads)
    setUseXNNPACK(xnnpack)
    delegate?.let { addDelegate(it) }
}

/** How many nodes the interpreter runs; the library tells it to its own tests only. */
private fun planLength(interpreter: Interpreter): Int? =
    generateSequence<Class<*>>(interpreter.javaClass) { it.superclass }
        .firstNotNullOfOrNull { kind -> kind.declaredMethods.find { it.name == PLAN_LENGTH } }
        ?.let { method ->
            method.isAccessible = true
            method.invoke(interpreter) as Int
        }

/** Typed loosely, since delegates of 2.6 can be closed but are not all declared to be. */
private fun release(delegate: Any?) {
    (delegate as? AutoCloseable)?.close()
}
