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
    override val delegates: List<String> = listOf("xnnpack", "none") + accelerators.keys

    override fun load(
        model: File,
        file: ModelFile,
        options: EngineOptions,
    ): Engine {
        val asked = delegateOf(options)
        var delegate: Delegate? = null
        try {
            delegate = accelerators[asked]?.invoke()
            return TfliteEngine(model, file, options.threads, asked == "xnnpack", delegate)
        } catch (error: IllegalArgumentException) {
            delegate?.close()
            throw refusal(file, asked, error)
        } catch (error: IllegalStateException) {
            delegate?.close()
            throw refusal(file, asked, error)
        }
    }

    private fun refusal(
        file: ModelFile,
        delegate: String,
        error: Exception,
    ) = BadInput("$name cannot load ${file.path} on $delegate: ${error.firstLine()}", error, Fault.REFUSED)
}

// Of the interpreter only what has not changed since 2.6 is used: its tensors were a class then.
private class TfliteEngine(
    model: File,
    private val file: ModelFile,
    threads: Int,
    xnnpack: Boolean,
    private val delegate: Delegate?,
) : Engine {
    private val interpreter = Interpreter(model, options(threads, xnnpack, delegate))
    private val inputs = interpreter.getSignatureInputs(SIGNATURE).toSet()
    private val outputs = interpreter.getSignatureOutputs(SIGNATURE).toSet()

    override val version: String get() = TensorFlowLite.runtimeVersion()

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
        delegate?.close()
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
