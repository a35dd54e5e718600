#pragma once

#include <optional>
#include <vector>

#include "power.h"
#include "stream.h"

struct Golden {
    struct Answer {
        size_t frame;
        std::vector<float> logits;
    };

    double first_step_ms = 0;
    std::vector<Answer> answers;
};

/** The first stream of the process: the golden frames, and the steps that complete them. */
Golden replay_golden(const Plan& plan, Stream& stream);

struct Pace {
    size_t steps = 200;
    double minutes = 0;  // instead of `steps`, where it is not 0
    double rate = 0;     // frames per second; 0: one step after the other
};

struct Temperature {
    double seconds;
    double celsius;
};

struct Samples {
    size_t warmup = 0;
    std::vector<double> step_ms, engine_ms, cpu_ms;  // one per step
    std::optional<size_t> late;                      // paced steps longer than their frames last
    std::vector<Temperature> temperatures;           // over a sustained run
    std::optional<PowerMeter::Energy> energy;        // of all steps
};

/** Warms up and times steps, over the golden frames again and again. */
Samples measure(const Plan& plan, Stream& stream, const Pace& pace);
