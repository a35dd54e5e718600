/** LiteRT's compiled model: its own buffers rotate without copies. */

#include <cstring>

#include "engine.h"
#include "error.h"
#include "litert_api.h"
#include "tflite_types.h"

namespace {

using Handle = LiteRtApi::Handle;

class LiteRtBuffer : public Buffer {
public:
    LiteRtBuffer(const LiteRtApi& api, Handle handle) : handle(handle), api_(api) {}
    ~LiteRtBuffer() override { api_.destroy_buffer(handle); }

    void* lock(For purpose) override {
        const auto mode = purpose == For::Reading   ? LiteRtApi::kRead
                          : purpose == For::Writing ? LiteRtApi::kWrite
                                                    : LiteRtApi::kReadWrite;
        void* address = nullptr;
        if (api_.lock(handle, &address, mode) || !address)
            throw Error("LiteRT does not let the host into one of its buffers");
        return address;
    }

    void unlock() override { api_.unlock(handle); }

    const Handle handle;

private:
    const LiteRtApi& api_;
};

/** The names, types and places of a signature's inputs or outputs. */
struct Side {
    const char* kind;
    const std::vector<Binding>& bindings;
    LiteRtApi::Count* count;
    LiteRtApi::Named* name;
    LiteRtApi::Tensor* tensor;
    LiteRtApi::Requirements* requirements;
};

struct Place {
    size_t index = 0;  // in the signature
    LiteRtApi::TensorType type = {};
};

/** The library keeps the texts of its statuses to itself. */
std::string reason_of(LiteRtApi::Status status) {
    switch (status) {
        case 3: return "runtime failure";
        case 5: return "unsupported";
        case 500: return "no readable model file";
        case 501: return "no TFLite model";
        case 502: return "a plugin cannot be opened";
        case 504: return "compilation failed";
        default: return "status " + std::to_string(status);
    }
}

class LiteRtModel : public Model {
public:
    LiteRtModel(const LiteRtApi& api, Handle environment, const std::string& path,
                const Graph& graph, const std::vector<Ring>& rings, const EngineOptions& options)
        : api_(api), environment_(environment), graph_(graph), delegate_(options.delegate) {
        check(api_.create_model(environment_, path.c_str(), &model_), "load");
        compile(options);
        check(api_.signature(model_, 0, &signature_), "read the signature of");
        inputs_ = places(input_side(), rings);
        outputs_ = places(output_side(), rings);
    }

    ~LiteRtModel() override {
        if (compiled_) api_.destroy_compiled(compiled_);
        if (options_) api_.destroy_options(options_);
        if (model_) api_.destroy_model(model_);
    }

    std::unique_ptr<Buffer> allocate(const std::string& tensor, const Ring&) override {
        for (const auto& [side, places] :
             {std::pair(input_side(), &inputs_), std::pair(output_side(), &outputs_)})
            for (size_t i = 0; i < side.bindings.size(); ++i)
                if (side.bindings[i].tensor == tensor) return allocate(side, (*places)[i]);
        throw Error("the model has no " + tensor + ", which the plan names");
    }

    size_t bind(const Buffers& inputs, const Buffers& outputs) override {
        assignments_.push_back({in_order(inputs, inputs_), in_order(outputs, outputs_)});
        return assignments_.size() - 1;
    }

    void run(size_t assignment) override {
        Assignment& bound = assignments_[assignment];
        check(api_.run(compiled_, 0, bound.inputs.size(), bound.inputs.data(),
                       bound.outputs.size(), bound.outputs.data()),
              "run");
    }

    Placement placement() const override {
        Placement placement;
        placement.delegate = delegate_;
        bool fully = false;
        if (delegate_ != "none" && !api_.fully_accelerated(compiled_, &fully))
            placement.fully = fully;
        return placement;
    }

private:
    struct Assignment {
        std::vector<Handle> inputs, outputs;
    };

    void check(LiteRtApi::Status status, const char* what) const {
        if (!status) return;
        throw Error("LiteRT cannot " + std::string(what) + " " + graph_.file + " with delegate " +
                    delegate_ + " (" + reason_of(status) + ")" +
                    (delegate_ == "gpu" ? "; here are none, xnnpack" : ""));
    }

    void compile(const EngineOptions& options) {
        const bool gpu = delegate_ == "gpu";
        check(api_.create_options(&options_), "choose options for");
        check(api_.set_accelerators(options_, gpu ? LiteRtApi::kGpu : LiteRtApi::kCpu),
              "choose an accelerator for");
        // The options of the CPU travel as TOML under the name of its delegate.
        const std::string mode = delegate_ == "none" ? "builtin" : "delegate";
        const std::string toml = "kernel_mode = \"" + mode + "\"\nnum_threads = " +
                                 std::to_string(options.threads) + "\n";
        Handle opaque = nullptr;
        check(api_.create_opaque("xnnpack", strdup(toml.c_str()), free, &opaque), "set threads of");
        check(api_.add_opaque(options_, opaque), "set threads of");
        check(api_.compile(environment_, model_, options_, &compiled_), "compile");
    }

    Side input_side() const {
        return {"input",         graph_.inputs,     api_.input_count, api_.input_name,
                api_.input_tensor, api_.input_requirements};
    }

    Side output_side() const {
        return {"output",          graph_.outputs,     api_.output_count, api_.output_name,
                api_.output_tensor, api_.output_requirements};
    }

    /** Of every binding, in the plan's order. */
    std::vector<Place> places(const Side& side, const std::vector<Ring>& rings) const {
        size_t count = 0;
        check(side.count(signature_, &count), "read the signature of");
        if (count != side.bindings.size())
            throw Error("the plan names other " + std::string(side.kind) + "s than " + graph_.file);
        std::vector<Place> places(count);
        for (size_t index = 0; index < count; ++index) {
            const char* name = nullptr;
            Handle tensor = nullptr;
            check(side.name(signature_, index, &name), "read the signature of");
            check(side.tensor(signature_, index, &tensor), "read the signature of");
            Place& place = places[index_of(side.kind, side.bindings, name)];
            place.index = index;
            check(api_.tensor_type(tensor, &place.type), "read the signature of");
            const Ring& ring = rings[side.bindings[index_of(side.kind, side.bindings, name)].ring];
            const auto& layout = place.type.layout;
            const std::vector<int64_t> shape(layout.dimensions, layout.dimensions + layout.rank);
            check_tensor(side.kind, name,
                         shape == ring.shape && place.type.element == tflite_type(ring.type));
        }
        return places;
    }

    std::unique_ptr<Buffer> allocate(const Side& side, const Place& place) {
        Handle requirements = nullptr, buffer = nullptr;
        check(side.requirements(compiled_, 0, place.index, &requirements), "allocate for");
        check(api_.create_buffer(environment_, &place.type, requirements, &buffer), "allocate for");
        return std::make_unique<LiteRtBuffer>(api_, buffer);
    }

    static std::vector<Handle> in_order(const Buffers& buffers, const std::vector<Place>& places) {
        std::vector<Handle> handles(buffers.size());
        for (size_t i = 0; i < buffers.size(); ++i)
            handles[places[i].index] = static_cast<LiteRtBuffer*>(buffers[i])->handle;
        return handles;
    }

    const LiteRtApi& api_;
    Handle environment_;
    const Graph& graph_;
    std::string delegate_;
    Handle model_ = nullptr, options_ = nullptr, compiled_ = nullptr, signature_ = nullptr;
    std::vector<Place> inputs_, outputs_;
    std::vector<Assignment> assignments_;
};

class LiteRtEngine : public Engine {
public:
    explicit LiteRtEngine(const EngineOptions& options)
        : options_(options), api_(Library(options.library, {"libLiteRt.so"})) {
        if (options_.delegate.empty()) options_.delegate = "xnnpack";
        const std::string folder = api_.library.folder();
        LiteRtApi::EnvironmentOption values[2] = {};
        values[0].tag = LiteRtApi::kRuntimeFolder;
        values[0].value.kind = LiteRtApi::kString;
        values[0].value.text = folder.c_str();
        values[1].tag = LiteRtApi::kLogSeverity;
        values[1].value.kind = LiteRtApi::kInt;
        values[1].value.number = LiteRtApi::kSilent;
        if (api_.create_environment(2, values, &environment_))
            throw Error("LiteRT cannot be started from " + api_.library.path());
        check_delegate();
    }

    ~LiteRtEngine() override { api_.destroy_environment(environment_); }

    std::unique_ptr<Model> load(const std::string& path, const Graph& graph,
                                const std::vector<Ring>& rings) override {
        auto model =
            std::make_unique<LiteRtModel>(api_, environment_, path, graph, rings, options_);
        // What did not go to the GPU ran nowhere near it, and its time would pass for the GPU's.
        if (options_.delegate == "gpu" && !model->placement().fully.value_or(false))
            throw Error("LiteRT's GPU does not take all of " + graph.file);
        return model;
    }

    std::string version() const override { return ""; }
    std::string library() const override { return api_.library.path(); }

private:
    void check_delegate() const {
        const std::string& asked = options_.delegate;
        if (asked == "none" || asked == "xnnpack") return;
        std::string there = "none, xnnpack";
        size_t count = 0;
        api_.accelerator_count(environment_, &count);
        for (size_t index = 0; index < count; ++index) {
            Handle accelerator = nullptr;
            int hardware = 0;
            if (api_.accelerator(environment_, index, &accelerator) ||
                api_.accelerator_hardware(accelerator, &hardware))
                continue;
            if (hardware & LiteRtApi::kGpu) there += ", gpu";
        }
        if (asked != "gpu" || there.find("gpu") == std::string::npos)
            throw Error("LiteRT has no delegate " + asked + " here; it has " + there);
    }

    EngineOptions options_;
    LiteRtApi api_;
    Handle environment_ = nullptr;
};

}  // namespace

std::unique_ptr<Engine> litert_engine(const EngineOptions& options) {
    return std::make_unique<LiteRtEngine>(options);
}
