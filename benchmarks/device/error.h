#pragma once

#include <stdexcept>

/** Every way to fail. The message is one sentence that names the cause. */
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
