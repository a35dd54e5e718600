package io.movinetedge.engine

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtProvider
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import io.movinetedge.BadInput
import io.movinetedge.Fault
import io.movinetedge.bundle.DType
import io.movinetedge.bundle.Format
import io.movinetedge.bundle.ModelFile
import io.movinetedge.firstLine
import java.io.File
import java.util.IdentityHashMap

// x86-64 cores without VNNI add up products of unsigned and signed bytes in 16 bits, which overflow
// in silence; with this ONNX Runtime takes slower products there that are exact.
private const val EXACT = "session.x64quantprecision"
private const val NO_FALLBACK = "session.disable_cpu_ep_fallback"

private val TYPES =
    mapOf(
        OnnxJavaType.FLOAT to DType.FLOAT32,
        OnnxJavaType.UINT8 to DType.UINT8,
        OnnxJavaType.INT8 to DType.INT8,
        OnnxJavaType.INT32 to DType.INT32,
    )

// A graph that these cannot take as a whole is an error, not half a graph on the CPU.
private val WITHOUT_CPU = setOf("nnapi")

private val PROVIDERS = mapOf("xnnpack" to OrtProvider.XNNPACK, "nnapi" to OrtProvider.NNAPI)

/** ONNX Runtime: states rotate uncopied, as tensors over the host's own memory. */
public object OrtEngines : EngineFactory {
    override val name: String = "onnxruntime"
    override val library: String = "ONNX Runtime"
    override val format: Format = Format.ONNX
    override val delegates: List<String> by lazy {
        val there = OrtEnvironment.getAvailableProviders()
        listOf("none") + PROVIDERS.filterValues { it in there }.keys
    }

    override fun load(
        model: File,
        file: ModelFile,
        options: EngineOptions,
    ): Engine {
        val delegate = delegateOf(options)
        try {
            return OrtEngine(model, file, delegate, options.threads)
        } catch (error: OrtException) {
            throw BadInput("$name cannot load ${file.path}: ${error.firstLine()}", error, Fault.REFUSED)
        }
    }
}

private class OrtEngine(
    model: File,
    private val file: ModelFile,
    private val delegate: String,
    threads: Int,
) : Engine {
    private val environment = OrtEnvironment.getEnvironment()
    private val session =
        sessionOptions(delegate, threads).use { environment.createSession(model.path, it) }
    private val tensors = IdentityHashMap<TensorBuffer, OnnxTensor>()

    override val version: String get() = environment.version

    /** Of what may not fall back; of XNNPACK it does not tell. */
    override val isWholeGraph: Boolean? get() = if (delegate in WITHOUT_CPU) true else null

    override fun bind(
        inputs: Buffers,
        outputs: Buffers,
    ): Binding {
        checkBuffers("input", described(session.inputInfo), inputs)
        checkBuffers("output", described(session.outputInfo), outputs)
        val fed = inputs.mapValues { tensorOn(it.value) }
        val fetched = outputs.mapValues { tensorOn(it.value) }
        return Binding { run(fed, fetched) }
    }

    private fun run(
        inputs: Map<String, OnnxTensor>,
        outputs: Map<String, OnnxTensor>,
    ) {
        try {
            session.run(inputs, outputs).close()
        } catch (error: OrtException) {
            throw BadInput("onnxruntime cannot run ${file.path}: ${error.firstLine()}", error, Fault.REFUSED)
        }
    }

    override fun close() {
        tensors.values.forEach { it.close() }
        tensors.clear()
        session.close()
    }

    private fun tensorOn(buffer: TensorBuffer): OnnxTensor =
        tensors.getOrPut(buffer) {
            val shape = LongArray(buffer.spec.shape.size) { buffer.spec.shape[it].toLong() }
            val type = TYPES.entries.first { it.value == buffer.spec.dtype }.key
            OnnxTensor.createTensor(environment, buffer.bytes, shape, type)
        }
}

private fun sessionOptions(
    delegate: String,
    threads: Int,
) = OrtSession.SessionOptions().apply {
    setIntraOpNumThreads(threads)
    setInterOpNumThreads(1)
    setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR)
    addConfigEntry(EXACT, "1")
    if (delegate in WITHOUT_CPU) addConfigEntry(NO_FALLBACK, "1")
    when (delegate) {
        "xnnpack" -> {
            addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
        }

        "nnapi" -> {
            addNnapi()
        }
    }
}

private fun described(tensors: Map<String, NodeInfo>): Map<String, Tensor> =
    tensors.mapValues { (_, node) ->
        val info = node.info as TensorInfo
        Tensor(info.shape.map(Long::toInt), TYPES[info.type]?.label ?: info.type.toString())
    }
