#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>

#include "clock.h"
#include "error.h"
#include "machine.h"
#include "report.h"

namespace {

struct EngineKind {
    const char* name;
    const char* format;
    std::unique_ptr<Engine> (*start)(const EngineOptions&);
};

constexpr EngineKind kEngines[] = {
    {"litert", "tflite", litert_engine},
    {"onnxruntime", "onnx", onnxruntime_engine},
    {"tflite", "tflite", tflite_engine},
};

const EngineKind& engine_kind(const Options& options, const Plan& plan) {
    for (const EngineKind& kind : kEngines) {
        if (options.engine != kind.name) continue;
        if (plan.format == kind.format) return kind;
        throw Error(options.folder + " holds ." + plan.format + " files, which " + options.engine +
                    " does not run; prepare it for that engine");
    }
    throw Error("there is no engine " + options.engine);
}

void run(const Options& options) {
    const Plan plan = read_plan(options.folder);
    const EngineKind& kind = engine_kind(options, plan);
    Findings found;
    found.start_celsius = temperature();
    found.base_memory_mb = memory_mb("VmRSS");
    const auto start = Clock::now();
    const std::unique_ptr<Engine> engine = kind.start(options.how);
    Stream stream(plan, *engine);
    found.load_ms = ms_since(start);
    found.version = engine->version();
    found.library = engine->library();
    found.placements = stream.placements();
    found.golden = replay_golden(plan, stream);
    found.samples = measure(plan, stream, options.pace);
    print(std::cout, options, plan, found);
}

}  // namespace

int main(int count, char** words) {
    try {
        const Options options = read_options(count, words);
        if (options.help)
            std::cout << kUsage;
        else
            run(options);
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << std::endl;
        return 2;
    }
    // Engines log from their destructors, and nothing is left to be saved.
    std::cout.flush();
    std::_Exit(std::cout ? 0 : 2);
}
