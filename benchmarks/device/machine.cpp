#include "machine.h"

#include <sched.h>
#include <sys/utsname.h>

#include <fstream>
#include <map>
#include <thread>

std::optional<std::string> first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line) || line.empty()) return std::nullopt;
    return line;
}

namespace {

std::string trimmed(const std::string& text) {
    const char* blank = " \t";
    const size_t begin = text.find_first_not_of(blank);
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(blank) - begin + 1);
}

/** The first value of every key in a file of `key: value` lines. */
std::map<std::string, std::string> fields(const std::string& path) {
    std::ifstream file(path);
    std::map<std::string, std::string> found;
    for (std::string line; std::getline(file, line);) {
        const size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        found.emplace(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
    }
    return found;
}

utsname names() {
    utsname found{};
    uname(&found);
    return found;
}

}  // namespace

std::string cpu_name() {
    const auto known = fields("/proc/cpuinfo");
    // In order of how well they name a processor; ARM boards lack the first.
    for (const char* key : {"model name", "Model", "Hardware", "cpu model"}) {
        const auto found = known.find(key);
        if (found != known.end() && !found->second.empty()) return found->second;
    }
    return architecture();
}

std::string architecture() { return names().machine; }

std::string system_name() {
    const utsname found = names();
    return std::string(found.sysname) + " " + found.release;
}

unsigned cores() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    if (sched_getaffinity(0, sizeof(usable), &usable) == 0)
        return static_cast<unsigned>(CPU_COUNT(&usable));
    return std::thread::hardware_concurrency();
}

std::optional<std::string> governor() {
    return first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
}

std::optional<double> temperature() {
    std::optional<double> hottest;
    for (int zone = 0;; ++zone) {
        const std::string folder = "/sys/class/thermal/thermal_zone" + std::to_string(zone);
        if (!std::ifstream(folder + "/type")) return hottest;
        const auto line = first_line(folder + "/temp");
        char* end = nullptr;
        const double reading = line ? std::strtod(line->c_str(), &end) / 1000 : 0;
        if (!line || end == line->c_str()) continue;
        if (!hottest || reading > *hottest) hottest = reading;
    }
}

std::optional<double> memory_mb(const std::string& field) {
    const auto known = fields("/proc/self/status");
    const auto found = known.find(field);
    if (found == known.end()) return std::nullopt;
    return std::strtod(found->second.c_str(), nullptr) * 1024 / 1e6;
}
