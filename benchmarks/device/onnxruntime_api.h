#pragma once

#include <cstddef>
#include <cstdint>

#include "library.h"

/**
 * The part of ONNX Runtime's C API that a step needs. OrtApi is a table of functions that only
 * ever grows at its end, so a function's place (onnxruntime_c_api.h) holds for all versions from
 * the one that brought it.
 */
class OnnxRuntimeApi {
public:
    using Handle = struct Opaque*;
    using Const = const struct Opaque*;
    using Status = Handle;  // null: done
    using Release = void(Handle);

    static constexpr uint32_t kVersion = 17;            // of the table: ONNX Runtime 1.17
    static constexpr uint32_t kAssignmentVersion = 24;  // tells which nodes went where

    struct Base {
        const void* const* (*table)(uint32_t version);
        const char* (*version)();
    };

    explicit OnnxRuntimeApi(Library opened) : library(std::move(opened)) {}

    Library library;
    const Base* base = get_base();
    const void* const* newest = base->table(kAssignmentVersion);
    const void* const* table = newest ? newest : base->table(kVersion);

    const char* (*error_message)(Const) = at(2);
    Status (*create_env)(int severity, const char* name, Handle*) = at(3);
    Status (*create_session)(Const env, const char* path, Const options, Handle*) = at(7);
    Status (*create_options)(Handle*) = at(10);
    Status (*set_severity)(Handle options, int) = at(22);
    Status (*set_intra_threads)(Handle options, int) = at(24);
    Status (*set_inter_threads)(Handle options, int) = at(25);
    Status (*input_count)(Const session, size_t*) = at(30);
    Status (*output_count)(Const session, size_t*) = at(31);
    Status (*input_type)(Const session, size_t, Handle*) = at(33);
    Status (*output_type)(Const session, size_t, Handle*) = at(34);
    Status (*input_name)(Const session, size_t, Handle allocator, char**) = at(36);
    Status (*output_name)(Const session, size_t, Handle allocator, char**) = at(37);
    Status (*create_tensor)(Const memory, void*, size_t bytes, const int64_t* shape, size_t rank,
                            int type, Handle*) = at(49);
    Status (*tensor_info)(Const type, Const*) = at(55);
    Status (*element_type)(Const info, int*) = at(60);
    Status (*rank)(Const info, size_t*) = at(61);
    Status (*shape)(Const info, int64_t*, size_t) = at(62);
    Status (*cpu_memory)(int allocator, int kind, Handle*) = at(69);
    Status (*free)(Handle allocator, void*) = at(76);
    Status (*allocator)(Handle*) = at(78);
    Release* release_env = at(92);
    Release* release_status = at(93);
    Release* release_memory = at(94);
    Release* release_session = at(95);
    Release* release_value = at(96);
    Release* release_type = at(98);
    Release* release_options = at(100);
    Status (*providers)(char***, int*) = at(125);
    Status (*release_providers)(char**, int) = at(126);
    Status (*configure)(Handle options, const char* key, const char* value) = at(130);
    Status (*run)(Handle session, Const options, Const binding) = at(133);
    Status (*create_binding)(Handle session, Handle*) = at(134);
    Release* release_binding = at(135);
    Status (*bind_input)(Handle binding, const char* name, Const value) = at(136);
    Status (*bind_output)(Handle binding, const char* name, Const value) = at(137);
    Status (*append_provider)(Handle options, const char* name, const char* const* keys,
                              const char* const* values, size_t) = at(216);
    Status (*append_nnapi)(Handle options, uint32_t flags) =
        library.find("OrtSessionOptionsAppendExecutionProvider_Nnapi");

    // Null before 1.24:
    Status (*assignments)(Const session, const Const**, size_t*) = at_newest(407);
    Status (*assigned_to)(Const part, const char**) = at_newest(408);
    Status (*assigned_nodes)(Const part, const Const**, size_t*) = at_newest(409);

private:
    const Base* get_base() const {
        const Base* (*get)() = library.symbol("OrtGetApiBase");
        return get();
    }

    Symbol at(size_t place) const;
    Symbol at_newest(size_t place) const;
};
