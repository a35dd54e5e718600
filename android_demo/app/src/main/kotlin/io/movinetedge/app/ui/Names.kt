package io.movinetedge.app.ui

import android.content.Context
import io.movinetedge.app.R

/** An engine's own name, which is the same in all languages. */
fun engineName(engine: String): String =
    when (engine) {
        "tflite" -> "TensorFlow Lite"
        "onnxruntime" -> "ONNX Runtime"
        else -> engine
    }

/** Where a delegate computes. */
fun delegateName(
    context: Context,
    delegate: String,
): String =
    when (delegate) {
        "none" -> context.getString(R.string.delegate_none)
        "xnnpack" -> context.getString(R.string.delegate_xnnpack)
        "nnapi" -> "NNAPI"
        "gpu" -> "GPU"
        else -> delegate
    }
