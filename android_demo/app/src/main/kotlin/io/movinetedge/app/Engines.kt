package io.movinetedge.app

import ai.onnxruntime.OrtEnvironment
import io.movinetedge.engine.DelegateMaker
import io.movinetedge.engine.EngineFactory
import io.movinetedge.engine.OrtEngines
import io.movinetedge.engine.TfliteEngines
import org.tensorflow.lite.gpu.GpuDelegate
import org.tensorflow.lite.gpu.GpuDelegateFactory
import org.tensorflow.lite.nnapi.NnApiDelegate

// Both in full precision, so that they are held to the same numbers as the CPU.
private val ACCELERATORS: Map<String, DelegateMaker> =
    linkedMapOf(
        // its own CPU code would be no accelerator
        "nnapi" to { NnApiDelegate(NnApiDelegate.Options().setUseNnapiCpu(false).setAllowFp16(false)) },
        "gpu" to { GpuDelegate(GpuDelegateFactory.Options().setPrecisionLossAllowed(false)) },
    )

/**
 * The engines that this app carries the native libraries of: always TensorFlow Lite, and ONNX Runtime
 * where the build could have it.
 */
fun androidEngines(): List<EngineFactory> =
    listOf(TfliteEngines(ACCELERATORS)) + listOf(OrtEngines).filter { hasOnnxRuntime }

private val hasOnnxRuntime: Boolean by lazy {
    try {
        OrtEnvironment.getEnvironment()
        true
    } catch (_: LinkageError) {
        false
    }
}
