#pragma once

#include <cstddef>
#include <cstdint>

#include "library.h"

/**
 * The part of TensorFlow Lite's C API that a step needs, with signatures: as of 2.16, whose
 * Android library (libtensorflowlite_jni.so of org.tensorflow:tensorflow-lite) exports all of it.
 */
struct TfLiteApi {
    explicit TfLiteApi(Library opened) : library(std::move(opened)) {}

    using Status = int;  // 0: done
    using Handle = struct Opaque*;
    using Const = const struct Opaque*;

    /** The beginning of TfLiteIntArray. */
    struct Integers {
        int size;
        int data[1];
    };

    /** The beginning of TfLiteRegistration. */
    struct Registration {
        void* functions[5];
        int32_t builtin_code;
    };
    static constexpr int32_t kDelegatedCode = 51;

    /** The beginning of TfLiteContext, which a delegate sees while it is applied. */
    struct Context {
        size_t tensors_size;
        Status (*execution_plan)(Context*, Integers**);
        void* skipped[5];
        Status (*node)(Context*, int index, void** node, Registration**);
    };

    /** The beginning of TfLiteDelegate. */
    struct Delegate {
        void* data;
        Status (*prepare)(Context*, Delegate*);
    };

    /** Options of a delegate, which grow with versions: of those we set none but the first. */
    struct Options {
        int32_t first;
        unsigned char rest[508];
    };

    struct NnapiOptions {
        int preference;
        const char *accelerator, *cache, *token;
        int disallow_cpu, allow_fp16, max_partitions;
        void* support_library;
    };

    Library library;

    const char* (*version)() = library.symbol("TfLiteVersion");
    Handle (*create_model)(const char* path) = library.symbol("TfLiteModelCreateFromFile");
    Handle (*create_options)() = library.symbol("TfLiteInterpreterOptionsCreate");
    void (*set_threads)(Handle options, int32_t) =
        library.symbol("TfLiteInterpreterOptionsSetNumThreads");
    void (*add_delegate)(Handle options, Delegate*) =
        library.symbol("TfLiteInterpreterOptionsAddDelegate");
    Handle (*create_interpreter)(Const model, Const options) =
        library.symbol("TfLiteInterpreterCreate");
    const char* (*signature_key)(Const interpreter, int32_t) =
        library.symbol("TfLiteInterpreterGetSignatureKey");
    Handle (*signature_runner)(Const interpreter, const char* key) =
        library.symbol("TfLiteInterpreterGetSignatureRunner");
    Status (*allocate)(Handle runner) = library.symbol("TfLiteSignatureRunnerAllocateTensors");
    Status (*invoke)(Handle runner) = library.symbol("TfLiteSignatureRunnerInvoke");
    size_t (*input_count)(Const runner) = library.symbol("TfLiteSignatureRunnerGetInputCount");
    size_t (*output_count)(Const runner) = library.symbol("TfLiteSignatureRunnerGetOutputCount");
    Handle (*input_tensor)(Handle runner, const char* name) =
        library.symbol("TfLiteSignatureRunnerGetInputTensor");
    Const (*output_tensor)(Const runner, const char* name) =
        library.symbol("TfLiteSignatureRunnerGetOutputTensor");
    int (*type)(Const tensor) = library.symbol("TfLiteTensorType");
    int32_t (*rank)(Const tensor) = library.symbol("TfLiteTensorNumDims");
    int32_t (*side)(Const tensor, int32_t) = library.symbol("TfLiteTensorDim");
    void* (*data)(Const tensor) = library.symbol("TfLiteTensorData");
    void (*delete_runner)(Handle) = library.symbol("TfLiteSignatureRunnerDelete");
    void (*delete_interpreter)(Handle) = library.symbol("TfLiteInterpreterDelete");
    void (*delete_options)(Handle) = library.symbol("TfLiteInterpreterOptionsDelete");
    void (*delete_model)(Handle) = library.symbol("TfLiteModelDelete");

    // Null where this build has no such delegate:
    Options (*xnnpack_defaults)() = library.find("TfLiteXNNPackDelegateOptionsDefault");
    Delegate* (*create_xnnpack)(const Options*) = library.find("TfLiteXNNPackDelegateCreate");
    NnapiOptions (*nnapi_defaults)() = library.find("TfLiteNnapiDelegateOptionsDefault");
    Delegate* (*create_nnapi)(const NnapiOptions*) = library.find("TfLiteNnapiDelegateCreate");
};
