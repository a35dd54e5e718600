#pragma once

#include <ostream>
#include <vector>

#include "measure.h"
#include "options.h"

/** Everything that one run found out. */
struct Findings {
    std::string version, library;
    double load_ms = 0;
    std::optional<double> base_memory_mb, start_celsius;
    std::vector<Placement> placements;  // of the plan's graphs
    Golden golden;
    Samples samples;
};

/** Prints it as one JSON, as `benchmarks/native_record.py` reads it. */
void print(std::ostream& out, const Options& options, const Plan& plan, const Findings& found);
