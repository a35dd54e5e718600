#include "power.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "machine.h"

namespace {

constexpr double kLookMs = 1000;
constexpr double kBatterySeconds = 10;  // gauges answer with means of about a second

std::optional<double> number(const std::string& path) {
    const auto line = first_line(path);
    if (!line) return std::nullopt;
    char* end = nullptr;
    const double value = std::strtod(line->c_str(), &end);
    return end == line->c_str() ? std::nullopt : std::optional(value);
}

/** What a folder of the system holds, in order; nothing where there is none. */
std::vector<std::filesystem::path> entries(const char* folder) {
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
        found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace

PowerMeter::PowerMeter() {
    for (const auto& zone : entries("/sys/class/powercap")) {
        const std::string name = zone.filename();
        // intel-rapl:0 is a package, intel-rapl:0:0 a part of it.
        if (name.rfind("intel-rapl:", 0) != 0 || name.rfind(':') != name.find(':')) continue;
        const double span = number(zone / "max_energy_range_uj").value_or(0);
        if (const auto count = number(zone / "energy_uj")) packages_.push_back({zone, span, *count});
    }
    for (const auto& supply : entries("/sys/class/power_supply"))
        if (battery_.empty() && first_line(supply / "type") == "Battery") battery_ = supply;
    if (packages_.empty()) watts_ = battery_watts();
}

void PowerMeter::look(bool at_once) {
    const double passed = ms_since(last_);
    if (passed < kLookMs && !at_once) return;
    if (!packages_.empty()) {
        joules_ += counted();
    } else if (watts_) {
        const auto watts = battery_watts();
        if (watts) joules_ += (*watts_ + *watts) / 2 * passed / 1e3;
        watts_ = watts;
    }
    seconds_ += passed / 1e3;
    last_ = Clock::now();
}

std::optional<PowerMeter::Energy> PowerMeter::used() {
    look(true);
    if (!packages_.empty()) return Energy{"rapl", joules_};
    if (!watts_ || seconds_ < kBatterySeconds) return std::nullopt;
    return Energy{"battery", joules_};
}

double PowerMeter::counted() {
    double joules = 0;
    for (Package& package : packages_) {
        const double now = number(package.folder + "/energy_uj").value_or(package.count);
        joules += (now - package.count + (now < package.count ? package.span : 0)) / 1e6;
        package.count = now;
    }
    return joules;
}

std::optional<double> PowerMeter::battery_watts() const {
    if (battery_.empty() || first_line(battery_ + "/status") != "Discharging") return std::nullopt;
    const auto current = number(battery_ + "/current_now");
    const auto voltage = number(battery_ + "/voltage_now");
    if (!current || !voltage) return std::nullopt;
    return std::abs(*current) * *voltage / 1e12;  // some gauges count what flows out as negative
}
