#pragma once

#include <optional>
#include <string>
#include <vector>

#include "clock.h"

/**
 * What a run costs in joules, as benchmarks/energy.py measures it: by the counters of the
 * processor's packages (RAPL), or by the gauge of a battery that nothing charges, which is the whole
 * device.
 */
class PowerMeter {
public:
    struct Energy {
        const char* source;
        double joules;
    };

    PowerMeter();

    /** Reads the sensors if it is time to: counters turn over and currents change. */
    void look(bool at_once = false);

    /** Since the beginning; nothing where the system does not tell. */
    std::optional<Energy> used();

private:
    struct Package {
        std::string folder;
        double span;  // at which the counter turns over
        double count;
    };

    double counted();
    std::optional<double> battery_watts() const;

    std::vector<Package> packages_;
    std::string battery_;
    std::optional<double> watts_;
    double joules_ = 0, seconds_ = 0;
    Clock::time_point last_ = Clock::now();
};
