#pragma once

#include <optional>
#include <string>

/** What can be said about the device; nothing where the system does not tell. */

/** Of a file. */
std::optional<std::string> first_line(const std::string& path);

std::string cpu_name();
std::string architecture();
std::string system_name();
unsigned cores();
std::optional<std::string> governor();

/** The hottest thermal zone in degrees Celsius. */
std::optional<double> temperature();

/** A field of /proc/self/status (VmRSS: resident now, VmHWM: at most) in 10^6 bytes. */
std::optional<double> memory_mb(const std::string& field);
