#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plan.h"

/** Memory of one tensor that an engine reads and writes in place. */
class Buffer {
public:
    virtual ~Buffer() = default;

    enum class For { Reading, Writing, Both };

    /** Where the host may reach it, until `unlock`; on an accelerator this may copy. */
    virtual void* lock(For purpose) = 0;
    virtual void unlock() {}
};

using Buffers = std::vector<Buffer*>;

/** How far a delegate took a graph; what the engine does not tell is left out. */
struct Placement {
    std::string delegate;
    std::map<std::string, size_t> nodes;  // by the name of who runs them
    std::optional<size_t> partitions;     // parts of the graph that the delegate runs
    std::optional<bool> fully;            // nothing was left to others
};

/** A loaded model file. Buffers are bound once for every assignment, then runs name nothing. */
class Model {
public:
    virtual ~Model() = default;

    /** A buffer that can be bound to `tensor`, an input or output of this model. */
    virtual std::unique_ptr<Buffer> allocate(const std::string& tensor, const Ring& ring) = 0;

    /** Binds buffers in the order of the graph's `inputs` and `outputs`; returns its number. */
    virtual size_t bind(const Buffers& inputs, const Buffers& outputs) = 0;

    virtual void run(size_t assignment) = 0;

    virtual Placement placement() const = 0;
};

struct EngineOptions {
    std::string library;   // path, or empty: where the system finds it
    std::string delegate;  // none, xnnpack, nnapi, gpu, or empty: the engine's own choice
    int threads = 1;
};

class Engine {
public:
    virtual ~Engine() = default;

    virtual std::unique_ptr<Model> load(const std::string& path, const Graph& graph,
                                        const std::vector<Ring>& rings) = 0;

    /** The engine's version; empty where it does not tell. */
    virtual std::string version() const = 0;

    /** The file of its library. */
    virtual std::string library() const = 0;
};

std::unique_ptr<Engine> litert_engine(const EngineOptions& options);
std::unique_ptr<Engine> onnxruntime_engine(const EngineOptions& options);
std::unique_ptr<Engine> tflite_engine(const EngineOptions& options);

/** An assignment must give every tensor of the model a ring of its shape and type. */
void check_tensor(const char* kind, const std::string& tensor, bool same);

/** Where `tensor` stands among `bindings`. */
size_t index_of(const char* kind, const std::vector<Binding>& bindings, const std::string& tensor);
