#pragma once

#include <cstddef>
#include <cstdint>

#include "library.h"

/**
 * The part of LiteRT's C API that a step needs, as LiteRT 2.2 and 2.3 have it (headers under
 * litert/c; before 2.2 a model was created without an environment).
 */
struct LiteRtApi {
    explicit LiteRtApi(Library opened) : library(std::move(opened)) {}

    using Status = int;  // 0: done
    using Handle = struct Opaque*;
    using Const = const struct Opaque*;

    enum Accelerator : int { kCpu = 1, kGpu = 2 };
    enum Lock : int { kRead = 0, kWrite = 1, kReadWrite = 2 };
    enum Tag : int { kRuntimeFolder = 22, kLogSeverity = 25 };
    enum Kind : int { kInt = 2, kString = 8 };
    static constexpr int64_t kSilent = 4;

    struct EnvironmentOption {
        Tag tag;
        struct {
            Kind kind;
            union {
                int64_t number;
                const char* text;
            };
        } value;
    };
    static_assert(sizeof(EnvironmentOption) == 24, "the layout of LiteRtEnvOption");

    struct TensorType {
        int element;
        struct {
            unsigned int rank : 7;
            unsigned int has_strides : 1;
            int32_t dimensions[8];
            uint32_t strides[8];
        } layout;
    };
    static_assert(sizeof(TensorType) == 72, "the layout of LiteRtRankedTensorType");

    Library library;

    using Destroy = void(Handle);
    using Named = Status(Handle, size_t, const char**);
    using Tensor = Status(Handle, size_t, Handle*);
    using Count = Status(Handle, size_t*);
    using Requirements = Status(Handle, size_t, size_t, Handle*);
    using DestroyData = void(void*);

    Status (*create_environment)(int, const EnvironmentOption*, Handle*) =
        library.symbol("LiteRtCreateEnvironment");
    Status (*create_model)(Handle environment, const char* path, Handle*) =
        library.symbol("LiteRtCreateModelFromFile");
    Status (*create_options)(Handle*) = library.symbol("LiteRtCreateOptions");
    Status (*set_accelerators)(Handle options, int) =
        library.symbol("LiteRtSetOptionsHardwareAccelerators");
    Status (*create_opaque)(const char* name, void* data, DestroyData*, Handle*) =
        library.symbol("LiteRtCreateOpaqueOptions");
    Status (*add_opaque)(Handle options, Handle opaque) = library.symbol("LiteRtAddOpaqueOptions");
    Status (*compile)(Handle environment, Handle model, Handle options, Handle*) =
        library.symbol("LiteRtCreateCompiledModel");
    Status (*fully_accelerated)(Handle, bool*) =
        library.symbol("LiteRtCompiledModelIsFullyAccelerated");
    Status (*run)(Handle, size_t signature, size_t, Handle* inputs, size_t, Handle* outputs) =
        library.symbol("LiteRtRunCompiledModel");
    Requirements* input_requirements =
        library.symbol("LiteRtGetCompiledModelInputBufferRequirements");
    Requirements* output_requirements =
        library.symbol("LiteRtGetCompiledModelOutputBufferRequirements");
    Status (*create_buffer)(Handle environment, const TensorType*, Handle requirements, Handle*) =
        library.symbol("LiteRtCreateManagedTensorBufferFromRequirements");
    Status (*lock)(Handle buffer, void**, Lock) = library.symbol("LiteRtLockTensorBuffer");
    Status (*unlock)(Handle buffer) = library.symbol("LiteRtUnlockTensorBuffer");
    Status (*signature)(Handle model, size_t, Handle*) = library.symbol("LiteRtGetModelSignature");
    Count* input_count = library.symbol("LiteRtGetNumSignatureInputs");
    Count* output_count = library.symbol("LiteRtGetNumSignatureOutputs");
    Named* input_name = library.symbol("LiteRtGetSignatureInputName");
    Named* output_name = library.symbol("LiteRtGetSignatureOutputName");
    Tensor* input_tensor = library.symbol("LiteRtGetSignatureInputTensorByIndex");
    Tensor* output_tensor = library.symbol("LiteRtGetSignatureOutputTensorByIndex");
    Status (*tensor_type)(Handle tensor, TensorType*) =
        library.symbol("LiteRtGetRankedTensorType");
    Count* accelerator_count = library.symbol("LiteRtGetNumAccelerators");
    Tensor* accelerator = library.symbol("LiteRtGetAccelerator");
    Status (*accelerator_name)(Const, const char**) = library.symbol("LiteRtGetAcceleratorName");
    Status (*accelerator_hardware)(Const, int*) =
        library.symbol("LiteRtGetAcceleratorHardwareSupport");
    Destroy* destroy_buffer = library.symbol("LiteRtDestroyTensorBuffer");
    Destroy* destroy_compiled = library.symbol("LiteRtDestroyCompiledModel");
    Destroy* destroy_options = library.symbol("LiteRtDestroyOptions");
    Destroy* destroy_model = library.symbol("LiteRtDestroyModel");
    Destroy* destroy_environment = library.symbol("LiteRtDestroyEnvironment");
};
