#pragma once

#include <map>
#include <memory>
#include <vector>

#include "engine.h"
#include "plan.h"

/**
 * A stream through a plan: frames in, answers out, as `movinet_edge.runtime.Stream` does it.
 *
 * States and features rotate by binding other buffers, never by copying.
 */
class Stream {
public:
    Stream(const Plan& plan, Engine& engine);

    /** Takes the next frame; false while there is no answer yet. */
    bool step(const uint8_t* rgb);

    /** The answer so far; of probabilities the logarithms. */
    const std::vector<float>& answer() const { return answer_; }

    /** Number of the next frame. */
    size_t frame() const { return frame_; }

    /** Whether frames are of the stream, or come behind its end to complete late answers. */
    void set_valid(bool valid);

    void reset();

    /** Milliseconds spent in the engine since it was last asked. */
    double take_engine_ms();

    /** How many assignments of buffers have been bound; each once, when it first comes up. */
    size_t assignments() const;

    std::vector<Placement> placements() const;

private:
    struct Runner {
        const Graph* graph;
        std::unique_ptr<Model> model;
        size_t runs = 0;
        std::map<std::vector<size_t>, size_t> bound;  // numbers of assignments by what they bind
        std::vector<size_t> key;                      // of the present step; kept for its memory
        std::vector<float> answer;
        size_t answered = 0;  // when, counted over all graphs; 0 before the first time
    };

    void allocate(Runner& runner);
    void run(Runner& runner);
    void fill_frame(const Runner& runner, size_t position, const uint8_t* rgb);
    void read_answer(Runner& runner);
    void combine();
    void fill(size_t ring, double value);
    size_t slot(const Binding& binding) const;

    const Plan& plan_;
    std::vector<std::vector<std::unique_ptr<Buffer>>> rings_;
    std::vector<Runner> runners_;
    std::vector<float> answer_;
    size_t frame_ = 0;
    size_t answers_ = 0;
    double engine_ms_ = 0;
};
