#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/**
 * What to run, as `benchmarks/native_plan.py` writes it: the bundle's manifest with every rule
 * turned into rings of buffers.
 */

enum class Type { Float32, UInt8, Int8, Int32 };

size_t size_of(Type type);

/**
 * The buffers of one tensor that outlives a run: a frame, an answer, a state, a feature. At run
 * number n of its `clock`, a graph, a binding with offset o uses buffer (n + o) mod `length`.
 */
struct Ring {
    size_t length;
    size_t clock;
    Type type;
    double initial;  // as it is stored, so of integers the quantised value
    std::vector<int64_t> shape;

    size_t elements() const;
    size_t bytes() const { return elements() * size_of(type); }
};

/** A tensor of a graph and the ring it is bound to. */
struct Binding {
    std::string tensor;
    size_t ring;
    int64_t offset;
};

constexpr size_t kNone = static_cast<size_t>(-1);

/** real = scale * (stored - zero_point); a scale of 0 means stored as it is. */
struct Answer {
    size_t ring = kNone;
    double scale = 0;
    int64_t zero_point = 0;
};

struct Graph {
    std::string name;
    std::string file;
    size_t bytes;
    uint32_t crc;
    size_t frames;  // that enter one run
    std::vector<Binding> inputs;
    std::vector<Binding> outputs;
    size_t frame = kNone;  // ring of the frame, if it takes one
    size_t valid = kNone;  // ring of `valid`, if it takes it
    Answer answer;
};

/** Graph `graph` runs at every frame n with n % every == offset. */
struct Turn {
    size_t graph;
    size_t every;
    size_t offset;
};

struct Plan {
    std::string folder;
    std::string format;  // of the model files: tflite or onnx
    size_t height = 0, width = 0, frames = 0;
    size_t classes = 0;
    size_t delay = 0;            // answers come so many frames late
    bool mean = false;           // the answer is the mean over the graphs, else the newest
    bool probabilities = false;  // graphs end in a softmax
    std::vector<Ring> rings;
    std::vector<Graph> graphs;
    std::vector<Turn> turns;
    std::vector<uint8_t> pixels;  // frames x height x width x RGB

    size_t frame_bytes() const { return height * width * 3; }

    /** The most frames that one run of a graph takes; more than 1 where graphs see whole clips. */
    size_t frames_per_step() const;
};

/** Reads `folder`: its plan and frames, and checks its model files against their sums. */
Plan read_plan(const std::string& folder);
