/** ONNX Runtime: one binding per assignment of buffers, so states rotate uncopied. */

#include <algorithm>
#include <cstdlib>

#include "engine.h"
#include "error.h"
#include "onnxruntime_api.h"

Symbol OnnxRuntimeApi::at(size_t place) const {
    if (!table) throw Error(library.path() + " is older than ONNX Runtime 1.17");
    return Symbol(const_cast<void*>(table[place]));
}

Symbol OnnxRuntimeApi::at_newest(size_t place) const {
    return Symbol(newest ? const_cast<void*>(newest[place]) : nullptr);
}

namespace {

using Api = OnnxRuntimeApi;
using Handle = Api::Handle;
using Const = Api::Const;

constexpr size_t kAlignment = 64;
constexpr int kErrors = 3;  // log severity

struct Provider {
    const char* delegate;
    const char* name;    // among those available
    const char* append;  // by which a session is asked for it
};

constexpr Provider kProviders[] = {
    {"none", "CPUExecutionProvider", nullptr},
    {"xnnpack", "XnnpackExecutionProvider", "XNNPACK"},
    {"nnapi", "NnapiExecutionProvider", nullptr},
    {"gpu", "WebGpuExecutionProvider", "WebGPU"},
};

/** Throws what a status says, up to the end of its first line. */
void check(const Api& api, Api::Status status, const std::string& what) {
    if (!status) return;
    std::string reason = api.error_message(status);
    api.release_status(status);
    throw Error("ONNX Runtime cannot " + what + ": " + reason.substr(0, reason.find('\n')));
}

int element_of(Type type) {
    switch (type) {
        case Type::Float32: return 1;
        case Type::UInt8: return 2;
        case Type::Int8: return 3;
        case Type::Int32: return 6;
    }
    return 0;
}

/** Host memory at an aligned address, with room behind that vectorised kernels may read. */
class HostBuffer : public Buffer {
public:
    HostBuffer(const Api& api, Const memory, const Ring& ring) : api_(api) {
        const size_t bytes = ring.bytes();
        const size_t room = (bytes / kAlignment + 3) * kAlignment;
        if (posix_memalign(&memory_, kAlignment, room)) throw Error("there is no memory left");
        check(api_,
              api_.create_tensor(memory, memory_, bytes, ring.shape.data(), ring.shape.size(),
                                 element_of(ring.type), &value_),
              "make a tensor");
    }

    ~HostBuffer() override {
        api_.release_value(value_);
        std::free(memory_);
    }

    void* lock(For) override { return memory_; }
    Const value() const { return value_; }

private:
    const Api& api_;
    void* memory_ = nullptr;
    Handle value_ = nullptr;
};

class OrtModel : public Model {
public:
    OrtModel(const Api& api, Handle session, Const memory, const Graph& graph,
             const std::vector<Ring>& rings, const Provider& provider)
        : api_(api), session_(session), memory_(memory), graph_(graph), provider_(provider) {
        check_side("input", graph.inputs, rings, api.input_count, api.input_name, api.input_type);
        check_side("output", graph.outputs, rings, api.output_count, api.output_name,
                   api.output_type);
    }

    ~OrtModel() override {
        for (Handle binding : bindings_) api_.release_binding(binding);
        api_.release_session(session_);
    }

    std::unique_ptr<Buffer> allocate(const std::string&, const Ring& ring) override {
        return std::make_unique<HostBuffer>(api_, memory_, ring);
    }

    size_t bind(const Buffers& inputs, const Buffers& outputs) override {
        Handle binding = nullptr;
        check(api_, api_.create_binding(session_, &binding), "bind");
        bindings_.push_back(binding);
        bind(binding, graph_.inputs, inputs, api_.bind_input);
        bind(binding, graph_.outputs, outputs, api_.bind_output);
        return bindings_.size() - 1;
    }

    void run(size_t assignment) override {
        check(api_, api_.run(session_, nullptr, bindings_[assignment]), "run " + graph_.file);
    }

    Placement placement() const override {
        Placement placement;
        placement.delegate = provider_.delegate;
        if (!api_.assignments) return placement;
        const Const* parts = nullptr;
        size_t count = 0, partitions = 0;
        check(api_, api_.assignments(session_, &parts, &count), "tell who runs " + graph_.file);
        for (size_t i = 0; i < count; ++i) {
            const char* who = nullptr;
            const Const* nodes = nullptr;
            size_t size = 0;
            check(api_, api_.assigned_to(parts[i], &who), "tell who runs " + graph_.file);
            check(api_, api_.assigned_nodes(parts[i], &nodes, &size), "tell who runs what");
            placement.nodes[who] += size;
            partitions += who == std::string(provider_.name);
        }
        if (provider_.delegate == std::string("none")) return placement;
        placement.partitions = partitions;
        placement.fully = placement.nodes.size() == 1 && partitions > 0;
        return placement;
    }

private:
    template <class CountOf, class NameOf, class TypeOf>
    void check_side(const char* kind, const std::vector<Binding>& bindings,
                    const std::vector<Ring>& rings, CountOf count_of, NameOf name_of,
                    TypeOf type_of) const {
        size_t count = 0;
        Handle allocator = nullptr;
        check(api_, api_.allocator(&allocator), "start");
        check(api_, count_of(session_, &count), "read " + graph_.file);
        if (count != bindings.size())
            throw Error("the plan names other " + std::string(kind) + "s than " + graph_.file);
        for (size_t index = 0; index < count; ++index) {
            char* text = nullptr;
            check(api_, name_of(session_, index, allocator, &text), "read " + graph_.file);
            const std::string name = text;
            check(api_, api_.free(allocator, text), "read " + graph_.file);
            Handle type = nullptr;
            check(api_, type_of(session_, index, &type), "read " + graph_.file);
            const bool same = fits(type, rings[bindings[index_of(kind, bindings, name)].ring]);
            api_.release_type(type);
            check_tensor(kind, name, same);
        }
    }

    bool fits(Const type, const Ring& ring) const {
        Const info = nullptr;
        int element = 0;
        size_t rank = 0;
        check(api_, api_.tensor_info(type, &info), "read " + graph_.file);
        if (!info) return false;
        check(api_, api_.element_type(info, &element), "read " + graph_.file);
        check(api_, api_.rank(info, &rank), "read " + graph_.file);
        std::vector<int64_t> shape(rank);
        check(api_, api_.shape(info, shape.data(), rank), "read " + graph_.file);
        return shape == ring.shape && element == element_of(ring.type);
    }

    template <class Bind>
    void bind(Handle binding, const std::vector<Binding>& tensors, const Buffers& buffers,
              Bind bind_one) const {
        for (size_t i = 0; i < tensors.size(); ++i) {
            const Const value = static_cast<HostBuffer*>(buffers[i])->value();
            check(api_, bind_one(binding, tensors[i].tensor.c_str(), value), "bind");
        }
    }

    const Api& api_;
    Handle session_;
    Const memory_;
    const Graph& graph_;
    const Provider& provider_;
    std::vector<Handle> bindings_;
};

class OrtEngine : public Engine {
public:
    explicit OrtEngine(const EngineOptions& options)
        : api_(Library(options.library, {"libonnxruntime.so", "libonnxruntime.so.1"})),
          provider_(provider(options.delegate)),
          threads_(options.threads) {
        check(api_, api_.create_env(kErrors, "movinet-edge", &env_), "start");
        check(api_, api_.cpu_memory(0, 0, &memory_), "start");
    }

    ~OrtEngine() override {
        api_.release_memory(memory_);
        api_.release_env(env_);
    }

    std::unique_ptr<Model> load(const std::string& path, const Graph& graph,
                                const std::vector<Ring>& rings) override {
        Handle options = session_options(), session = nullptr;
        const Api::Status status = api_.create_session(env_, path.c_str(), options, &session);
        api_.release_options(options);
        check(api_, status, "load " + graph.file);
        auto model =
            std::make_unique<OrtModel>(api_, session, memory_, graph, rings, provider_);
        const Placement placement = model->placement();
        // It only warns where a provider takes nothing, and runs all on the CPU.
        if (api_.assignments && !placement.nodes.count(provider_.name))
            throw Error("delegate " + std::string(provider_.delegate) + " takes no node of " +
                        graph.file + "; all would run on the CPU");
        return model;
    }

    std::string version() const override { return api_.base->version(); }
    std::string library() const override { return api_.library.path(); }

private:
    /** The provider behind a delegate, which must be in this build of the library. */
    const Provider& provider(const std::string& delegate) const {
        char** names = nullptr;
        int count = 0;
        check(api_, api_.providers(&names, &count), "name its providers");
        const std::vector<std::string> available(names, names + count);
        check(api_, api_.release_providers(names, count), "name its providers");
        std::string there;
        for (const Provider& known : kProviders) {
            if (std::find(available.begin(), available.end(), known.name) == available.end())
                continue;
            if (known.delegate == (delegate.empty() ? "none" : delegate)) return known;
            there += (there.empty() ? "" : ", ") + std::string(known.delegate);
        }
        throw Error("ONNX Runtime has no delegate " + delegate + " here; it has " + there);
    }

    Handle session_options() const {
        Handle options = nullptr;
        const std::string threads = std::to_string(threads_);
        const bool own_threads = provider_.delegate == std::string("xnnpack");
        check(api_, api_.create_options(&options), "start");
        check(api_, api_.set_severity(options, kErrors), "start");
        // XNNPACK brings threads of its own, beside which the session's would only wait.
        check(api_, api_.set_intra_threads(options, own_threads ? 1 : threads_), "set threads");
        check(api_, api_.set_inter_threads(options, 1), "set threads");
        // As the Python runtime: integers exact on every CPU.
        check(api_, api_.configure(options, "session.x64quantprecision", "1"), "start");
        check(api_, api_.configure(options, "session.record_ep_graph_assignment_info", "1"),
              "start");
        if (provider_.append) {
            const char* keys[] = {"intra_op_num_threads"};
            const char* values[] = {threads.c_str()};
            check(api_,
                  api_.append_provider(options, provider_.append, keys, values, own_threads),
                  "use " + std::string(provider_.delegate));
        } else if (provider_.delegate == std::string("nnapi")) {
            if (!api_.append_nnapi) throw Error(api_.library.path() + " has no way to use nnapi");
            check(api_, api_.append_nnapi(options, 0), "use nnapi");
        }
        return options;
    }

    Api api_;
    const Provider& provider_;
    int threads_;
    Handle env_ = nullptr, memory_ = nullptr;
};

}  // namespace

std::unique_ptr<Engine> onnxruntime_engine(const EngineOptions& options) {
    return std::make_unique<OrtEngine>(options);
}
