#include "report.h"

#include "json.h"
#include "machine.h"

namespace {

void print_machine(Json& json, const Findings& found) {
    json.key("machine").open('{');
    json.field("cpu", cpu_name()).field("architecture", architecture());
    json.field("cores", static_cast<size_t>(cores())).field("governor", governor());
    json.field("temperature_c", found.start_celsius).field("os", system_name());
    json.close('}');
}

void print_graphs(Json& json, const Plan& plan, const Findings& found) {
    json.key("graphs").open('[');
    for (size_t i = 0; i < plan.graphs.size(); ++i) {
        const Placement& placement = found.placements[i];
        json.open('{').field("graph", plan.graphs[i].name).field("delegate", placement.delegate);
        json.field("partitions", placement.partitions).field("fully_accelerated", placement.fully);
        json.key("nodes").open('{');
        for (const auto& [who, count] : placement.nodes) json.field(who, count);
        json.close('}').close('}');
    }
    json.close(']');
}

void print_samples(Json& json, const Samples& samples) {
    json.field("warmup", samples.warmup).field("late_steps", samples.late);
    json.field("step_ms", samples.step_ms).field("engine_ms", samples.engine_ms);
    json.field("cpu_ms", samples.cpu_ms);
    json.key("temperatures").open('[');
    for (const Temperature& reading : samples.temperatures)
        json.value(std::vector<double>{reading.seconds, reading.celsius});
    json.close(']').key("energy");
    if (!samples.energy) {
        json.value(std::optional<double>());
        return;
    }
    const auto steps = static_cast<double>(samples.step_ms.size());
    json.open('{').field("source", samples.energy->source);
    json.field("joules_per_step", samples.energy->joules / steps).close('}');
}

}  // namespace

void print(std::ostream& out, const Options& options, const Plan& plan, const Findings& found) {
    Json json(out);
    json.open('{').field("engine", options.engine);
    json.key("engine_version");
    found.version.empty() ? json.value(std::optional<double>()) : json.value(found.version);
    json.field("library", found.library);
    json.field("threads", static_cast<size_t>(options.how.threads));
    json.key("frame_rate").value(options.pace.rate > 0 ? std::optional(options.pace.rate)
                                                        : std::nullopt);
    json.field("frames_per_step", plan.frames_per_step());
    print_machine(json, found);
    print_graphs(json, plan, found);
    json.field("load_ms", found.load_ms).field("first_step_ms", found.golden.first_step_ms);
    json.field("base_memory_mb", found.base_memory_mb).field("peak_memory_mb", memory_mb("VmHWM"));
    print_samples(json, found.samples);
    json.key("answers").open('[');
    for (const Golden::Answer& answer : found.golden.answers)
        json.open('{').field("frame", answer.frame).field("logits", answer.logits).close('}');
    json.close(']').close('}');
    out << std::endl;
}
