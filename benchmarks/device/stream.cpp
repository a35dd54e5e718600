#include "stream.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "clock.h"
#include "error.h"

namespace {

constexpr float kByte = static_cast<float>(1.0 / 255);

template <class Value>
void fill_with(void* memory, size_t count, double value) {
    std::fill_n(static_cast<Value*>(memory), count, static_cast<Value>(value));
}

float stored(const void* memory, Type type, size_t index) {
    switch (type) {
        case Type::Float32: return static_cast<const float*>(memory)[index];
        case Type::Int32: return static_cast<float>(static_cast<const int32_t*>(memory)[index]);
        case Type::Int8: return static_cast<const int8_t*>(memory)[index];
        case Type::UInt8: return static_cast<const uint8_t*>(memory)[index];
    }
    return 0;
}

}  // namespace

Stream::Stream(const Plan& plan, Engine& engine) : plan_(plan), rings_(plan.rings.size()) {
    for (const Graph& graph : plan.graphs) {
        Runner runner{};
        runner.graph = &graph;
        runner.model = engine.load(plan.folder + "/" + graph.file, graph, plan.rings);
        allocate(runner);
        runners_.push_back(std::move(runner));
    }
    reset();
}

/** Makes the buffers of its rings, unless another graph has done so. */
void Stream::allocate(Runner& runner) {
    for (const auto* bindings : {&runner.graph->outputs, &runner.graph->inputs}) {
        for (const Binding& binding : *bindings) {
            auto& buffers = rings_[binding.ring];
            const Ring& ring = plan_.rings[binding.ring];
            while (buffers.size() < ring.length)
                buffers.push_back(runner.model->allocate(binding.tensor, ring));
        }
    }
}

void Stream::fill(size_t ring, double value) {
    const size_t count = plan_.rings[ring].elements();
    for (const auto& buffer : rings_[ring]) {
        void* memory = buffer->lock(Buffer::For::Writing);
        switch (plan_.rings[ring].type) {
            case Type::Float32: fill_with<float>(memory, count, value); break;
            case Type::Int32: fill_with<int32_t>(memory, count, value); break;
            case Type::Int8: fill_with<int8_t>(memory, count, value); break;
            case Type::UInt8: fill_with<uint8_t>(memory, count, value); break;
        }
        buffer->unlock();
    }
}

void Stream::reset() {
    for (size_t ring = 0; ring < rings_.size(); ++ring) fill(ring, plan_.rings[ring].initial);
    for (Runner& runner : runners_) runner.runs = runner.answered = 0;
    frame_ = answers_ = 0;
}

void Stream::set_valid(bool valid) {
    for (const Runner& runner : runners_)
        if (runner.graph->valid != kNone) fill(runner.graph->valid, valid ? 1 : 0);
}

bool Stream::step(const uint8_t* rgb) {
    for (const Turn& turn : plan_.turns) {
        Runner& runner = runners_[turn.graph];
        if (frame_ % turn.every != turn.offset) continue;
        if (runner.graph->frame != kNone) {
            const size_t position = (frame_ / turn.every) % runner.graph->frames;
            fill_frame(runner, position, rgb);
            if (position + 1 < runner.graph->frames) continue;
        }
        run(runner);
        if (runner.graph->answer.ring != kNone) read_answer(runner);
    }
    const size_t number = frame_++;
    if (!answers_ || number < plan_.delay) return false;
    combine();
    return true;
}

/** The contract's values: bytes as they are, less 128, or scaled to 0..1. */
void Stream::fill_frame(const Runner& runner, size_t position, const uint8_t* rgb) {
    const size_t ring = runner.graph->frame, count = plan_.frame_bytes();
    Buffer& buffer = *rings_[ring].front();
    const bool whole = runner.graph->frames == 1;
    void* memory = buffer.lock(whole ? Buffer::For::Writing : Buffer::For::Both);
    const size_t start = position * count;
    switch (plan_.rings[ring].type) {
        case Type::Float32: {
            float* target = static_cast<float*>(memory) + start;
            for (size_t i = 0; i < count; ++i) target[i] = static_cast<float>(rgb[i]) * kByte;
            break;
        }
        case Type::UInt8: std::copy_n(rgb, count, static_cast<uint8_t*>(memory) + start); break;
        case Type::Int8: {
            int8_t* target = static_cast<int8_t*>(memory) + start;
            for (size_t i = 0; i < count; ++i) target[i] = static_cast<int8_t>(rgb[i] - 128);
            break;
        }
        case Type::Int32: throw Error("a frame of int32 is not of the contract");
    }
    buffer.unlock();
}

/** Which buffer of its ring a binding means now. */
size_t Stream::slot(const Binding& binding) const {
    const Ring& ring = plan_.rings[binding.ring];
    const auto length = static_cast<int64_t>(ring.length);
    const auto runs = static_cast<int64_t>(runners_[ring.clock].runs);
    return static_cast<size_t>(((runs + binding.offset) % length + length) % length);
}

void Stream::run(Runner& runner) {
    runner.key.clear();
    for (const auto* bindings : {&runner.graph->inputs, &runner.graph->outputs})
        for (const Binding& binding : *bindings) runner.key.push_back(slot(binding));
    auto found = runner.bound.find(runner.key);
    if (found == runner.bound.end()) {
        Buffers inputs, outputs;
        for (const Binding& binding : runner.graph->inputs)
            inputs.push_back(rings_[binding.ring][slot(binding)].get());
        for (const Binding& binding : runner.graph->outputs)
            outputs.push_back(rings_[binding.ring][slot(binding)].get());
        found = runner.bound.emplace(runner.key, runner.model->bind(inputs, outputs)).first;
    }
    const auto start = Clock::now();
    runner.model->run(found->second);
    engine_ms_ += ms_since(start);
    ++runner.runs;
}

void Stream::read_answer(Runner& runner) {
    const Answer& answer = runner.graph->answer;
    const Ring& ring = plan_.rings[answer.ring];
    Buffer& buffer = *rings_[answer.ring].front();
    const void* memory = buffer.lock(Buffer::For::Reading);
    const size_t start = ring.elements() - plan_.classes;  // the last of several answers
    runner.answer.resize(plan_.classes);
    for (size_t i = 0; i < plan_.classes; ++i) {
        float value = stored(memory, ring.type, start + i);
        if (answer.scale != 0)
            value = (value - static_cast<float>(answer.zero_point)) *
                    static_cast<float>(answer.scale);
        if (plan_.probabilities)
            value = std::log(std::max(value, std::numeric_limits<float>::min()));
        runner.answer[i] = value;
    }
    buffer.unlock();
    runner.answered = ++answers_;
}

/** The newest answer, or the mean over all graphs that have answered. */
void Stream::combine() {
    const Runner* newest = nullptr;
    size_t count = 0;
    answer_.assign(plan_.classes, 0);
    for (const Runner& runner : runners_) {
        if (!runner.answered) continue;
        if (!newest || runner.answered > newest->answered) newest = &runner;
        ++count;
        if (!plan_.mean) continue;
        for (size_t i = 0; i < answer_.size(); ++i) answer_[i] += runner.answer[i];
    }
    if (!plan_.mean) {
        answer_ = newest->answer;
        return;
    }
    for (float& value : answer_) value /= static_cast<float>(count);
}

double Stream::take_engine_ms() {
    const double spent = engine_ms_;
    engine_ms_ = 0;
    return spent;
}

size_t Stream::assignments() const {
    size_t count = 0;
    for (const Runner& runner : runners_) count += runner.bound.size();
    return count;
}

std::vector<Placement> Stream::placements() const {
    std::vector<Placement> placements;
    for (const Runner& runner : runners_) placements.push_back(runner.model->placement());
    return placements;
}
