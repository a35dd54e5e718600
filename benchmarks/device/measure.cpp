#include "measure.h"

#include <thread>

#include "clock.h"
#include "machine.h"

namespace {

constexpr size_t kCalm = 10;             // steps without a new assignment before timing begins
constexpr double kThermalSeconds = 10;   // between two readings of the temperature

using Duration = Clock::duration;

Duration seconds(double value) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

/** The frames of step `number`, of a stream that never ends. */
class Feed {
public:
    Feed(const Plan& plan, Stream& stream)
        : plan_(plan), stream_(stream), per_step_(plan.frames_per_step()) {}

    void step() {
        for (size_t i = 0; i < per_step_; ++i) {
            stream_.step(plan_.pixels.data() + next_ * plan_.frame_bytes());
            next_ = (next_ + 1) % plan_.frames;
        }
    }

    double seconds_per_step(double rate) const { return static_cast<double>(per_step_) / rate; }

private:
    const Plan& plan_;
    Stream& stream_;
    size_t per_step_;
    size_t next_ = 0;
};

size_t warm_up(Feed& feed, const Stream& stream) {
    size_t steps = 0;
    for (size_t calm = 0; calm < kCalm; ++steps) {
        const size_t before = stream.assignments();
        feed.step();
        calm = stream.assignments() == before ? calm + 1 : 0;
    }
    return steps;
}

double time_step(Feed& feed, Stream& stream, Samples& samples) {
    stream.take_engine_ms();
    const double cpu = cpu_ms();
    const auto start = Clock::now();
    feed.step();
    const double spent = ms_since(start);
    samples.cpu_ms.push_back(cpu_ms() - cpu);
    samples.step_ms.push_back(spent);
    samples.engine_ms.push_back(stream.take_engine_ms());
    return spent;
}

}  // namespace

Golden replay_golden(const Plan& plan, Stream& stream) {
    Golden golden;
    const std::vector<uint8_t> nothing(plan.frame_bytes());
    stream.reset();
    for (size_t number = 0; number < plan.frames + plan.delay; ++number) {
        const bool behind = number >= plan.frames;
        if (number == plan.frames) stream.set_valid(false);
        const auto start = Clock::now();
        const bool answered =
            stream.step(behind ? nothing.data() : plan.pixels.data() + number * plan.frame_bytes());
        if (number == 0) golden.first_step_ms = ms_since(start);
        if (answered) golden.answers.push_back({number, stream.answer()});
    }
    stream.reset();
    return golden;
}

Samples measure(const Plan& plan, Stream& stream, const Pace& pace) {
    Samples samples;
    Feed feed(plan, stream);
    samples.warmup = warm_up(feed, stream);
    const double interval = pace.rate > 0 ? feed.seconds_per_step(pace.rate) : 0;
    if (interval > 0) samples.late = 0;
    PowerMeter meter;
    const auto start = Clock::now();
    const auto end = start + seconds(pace.minutes * 60);
    auto due = start, reading = start;
    const auto more = [&] {
        return pace.minutes > 0 ? Clock::now() < end : samples.step_ms.size() < pace.steps;
    };
    while (more()) {
        meter.look();
        if (pace.minutes > 0 && Clock::now() >= reading) {
            if (const auto celsius = temperature())
                samples.temperatures.push_back({ms_since(start) / 1e3, *celsius});
            reading += seconds(kThermalSeconds);
        }
        if (interval > 0) std::this_thread::sleep_until(due);
        const bool late = time_step(feed, stream, samples) > interval * 1e3;
        if (interval <= 0) continue;
        *samples.late += late;
        // A camera does not wait: after a late step the next frame is the newest one.
        due = late ? Clock::now() : due + seconds(interval);
    }
    samples.energy = meter.used();
    return samples;
}
