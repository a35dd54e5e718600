/** TensorFlow Lite's interpreter: its tensors have fixed places, so states are copied. */

#include <cstring>

#include "engine.h"
#include "error.h"
#include "tflite_api.h"
#include "tflite_types.h"

namespace {

using Handle = TfLiteApi::Handle;
using Delegate = TfLiteApi::Delegate;

class CopiedBuffer : public Buffer {
public:
    explicit CopiedBuffer(size_t bytes) : bytes_(bytes) {}
    void* lock(For) override { return bytes_.data(); }
    size_t size() const { return bytes_.size(); }

private:
    std::vector<unsigned char> bytes_;
};

/**
 * What a delegate did to a graph. The C API does not tell, but while a delegate is applied it
 * sees the graph, and we look over its shoulder. One is applied at a time.
 */
struct Watch {
    TfLiteApi::Status (*prepare)(TfLiteApi::Context*, Delegate*) = nullptr;
    size_t all = 0, parts = 0, left = 0;
};

Watch watch;

TfLiteApi::Status watched_prepare(TfLiteApi::Context* context, Delegate* delegate) {
    TfLiteApi::Integers* plan = nullptr;
    if (!context->execution_plan(context, &plan)) watch.all = static_cast<size_t>(plan->size);
    const TfLiteApi::Status status = watch.prepare(context, delegate);
    watch.parts = watch.left = 0;
    if (status || context->execution_plan(context, &plan)) return status;
    for (int i = 0; i < plan->size; ++i) {
        void* node = nullptr;
        TfLiteApi::Registration* registration = nullptr;
        if (context->node(context, plan->data[i], &node, &registration)) continue;
        const bool taken = registration->builtin_code == TfLiteApi::kDelegatedCode;
        ++(taken ? watch.parts : watch.left);
    }
    return status;
}

class TfLiteModel : public Model {
public:
    TfLiteModel(const TfLiteApi& api, const std::string& path, const Graph& graph,
                const std::vector<Ring>& rings, const EngineOptions& options, Delegate* delegate)
        : api_(api), graph_(graph), delegate_(options.delegate) {
        check(model_ = api_.create_model(path.c_str()), "load");
        watch = Watch{delegate->prepare};
        delegate->prepare = watched_prepare;
        const Handle settings = api_.create_options();
        api_.set_threads(settings, options.threads);
        api_.add_delegate(settings, delegate);
        interpreter_ = api_.create_interpreter(model_, settings);
        api_.delete_options(settings);
        check(interpreter_, "prepare");
        const char* key = api_.signature_key(interpreter_, 0);
        check(key && (runner_ = api_.signature_runner(interpreter_, key)), "find a signature in");
        check(!api_.allocate(runner_), "allocate for");
        note_placement();
        check_count("input", graph.inputs.size(), api_.input_count(runner_));
        check_count("output", graph.outputs.size(), api_.output_count(runner_));
        for (const Binding& binding : graph.inputs) {
            inputs_.push_back(api_.input_tensor(runner_, binding.tensor.c_str()));
            check_side("input", binding, rings, inputs_.back());
        }
        for (const Binding& binding : graph.outputs) {
            outputs_.push_back(api_.output_tensor(runner_, binding.tensor.c_str()));
            check_side("output", binding, rings, outputs_.back());
        }
    }

    ~TfLiteModel() override {
        if (runner_) api_.delete_runner(runner_);
        if (interpreter_) api_.delete_interpreter(interpreter_);
        if (model_) api_.delete_model(model_);
    }

    std::unique_ptr<Buffer> allocate(const std::string&, const Ring& ring) override {
        return std::make_unique<CopiedBuffer>(ring.bytes());
    }

    size_t bind(const Buffers& inputs, const Buffers& outputs) override {
        assignments_.push_back({inputs, outputs});
        return assignments_.size() - 1;
    }

    void run(size_t assignment) override {
        const auto& [inputs, outputs] = assignments_[assignment];
        for (size_t i = 0; i < inputs.size(); ++i) {
            auto* buffer = static_cast<CopiedBuffer*>(inputs[i]);
            std::memcpy(api_.data(inputs_[i]), buffer->lock(Buffer::For::Reading), buffer->size());
        }
        check(!api_.invoke(runner_), "run");
        for (size_t i = 0; i < outputs.size(); ++i) {
            auto* buffer = static_cast<CopiedBuffer*>(outputs[i]);
            const void* source = api_.data(outputs_[i]);
            std::memcpy(buffer->lock(Buffer::For::Writing), source, buffer->size());
        }
    }

    Placement placement() const override { return placement_; }

private:
    void check(bool holds, const char* what) const {
        if (!holds)
            throw Error("TensorFlow Lite cannot " + std::string(what) + " " + graph_.file +
                        " with delegate " + delegate_);
    }

    void check_count(const char* kind, size_t planned, size_t there) const {
        if (planned != there)
            throw Error("the plan names other " + std::string(kind) + "s than " + graph_.file);
    }

    void check_side(const char* kind, const Binding& binding, const std::vector<Ring>& rings,
                    TfLiteApi::Const tensor) const {
        if (!tensor) throw Error("the model has no " + std::string(kind) + " " + binding.tensor);
        const Ring& ring = rings[binding.ring];
        std::vector<int64_t> shape;
        for (int32_t i = 0; i < api_.rank(tensor); ++i) shape.push_back(api_.side(tensor, i));
        check_tensor(kind, binding.tensor,
                     shape == ring.shape && api_.type(tensor) == tflite_type(ring.type));
    }

    void note_placement() {
        if (!watch.parts)
            throw Error("delegate " + delegate_ + " takes no node of " + graph_.file +
                        "; all would run on the CPU's plain kernels");
        placement_.delegate = delegate_;
        placement_.partitions = watch.parts;
        placement_.fully = watch.left == 0;
        placement_.nodes[delegate_] = watch.all - watch.left;
        if (watch.left) placement_.nodes["builtin"] = watch.left;
    }

    const TfLiteApi& api_;
    const Graph& graph_;
    std::string delegate_;
    Handle model_ = nullptr, interpreter_ = nullptr, runner_ = nullptr;
    Placement placement_;
    std::vector<Handle> inputs_;  // in the plan's order
    std::vector<TfLiteApi::Const> outputs_;
    std::vector<std::pair<Buffers, Buffers>> assignments_;
};

class TfLiteEngine : public Engine {
public:
    explicit TfLiteEngine(const EngineOptions& options)
        : options_(options),
          api_(Library(options.library, {"libtensorflowlite_c.so", "libtensorflowlite_jni.so"})) {
        if (options_.delegate.empty()) options_.delegate = "xnnpack";
    }

    std::unique_ptr<Model> load(const std::string& path, const Graph& graph,
                                const std::vector<Ring>& rings) override {
        return std::make_unique<TfLiteModel>(api_, path, graph, rings, options_, delegate());
    }

    std::string version() const override { return api_.version(); }
    std::string library() const override { return api_.library.path(); }

private:
    /** One for a model. It lives as long as the process, for it must outlive the interpreter. */
    Delegate* delegate() {
        Delegate* made = nullptr;
        const std::string& asked = options_.delegate;
        if (asked == "xnnpack" && api_.create_xnnpack) {
            TfLiteApi::Options options = api_.xnnpack_defaults();
            options.first = options_.threads;
            made = api_.create_xnnpack(&options);
        } else if (asked == "nnapi" && api_.create_nnapi) {
            TfLiteApi::NnapiOptions options = api_.nnapi_defaults();
            options.disallow_cpu = 1;  // its CPU is no accelerator
            made = api_.create_nnapi(&options);
        } else if (asked == "gpu") {
            made = gpu_delegate();
        }
        if (!made || !made->prepare)
            throw Error("TensorFlow Lite has no delegate " + asked + " here; it has " + there());
        return made;
    }

    /** It has a library of its own, beside the interpreter's. */
    Delegate* gpu_delegate() {
#ifdef __ANDROID__
        static const Library gpu(api_.library.folder() + "/libtensorflowlite_gpu_jni.so", {});
        TfLiteApi::Options (*defaults)() = gpu.symbol("TfLiteGpuDelegateOptionsV2Default");
        Delegate* (*create)(const TfLiteApi::Options*) = gpu.symbol("TfLiteGpuDelegateV2Create");
        const TfLiteApi::Options options = defaults();
        return create(&options);
#else
        return nullptr;
#endif
    }

    /** What of its delegates this library has; each is asked for by name, the CPU's as well. */
    std::string there() const {
        std::string names = api_.create_xnnpack ? "xnnpack" : "none that this runner knows";
        return api_.create_nnapi ? names + ", nnapi" : names;
    }

    EngineOptions options_;
    TfLiteApi api_;
};

}  // namespace

std::unique_ptr<Engine> tflite_engine(const EngineOptions& options) {
    return std::make_unique<TfLiteEngine>(options);
}
