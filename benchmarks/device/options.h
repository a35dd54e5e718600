#pragma once

#include <string>

#include "engine.h"
#include "measure.h"

struct Options {
    std::string folder;
    std::string engine;
    EngineOptions how;
    Pace pace;
    bool help = false;
};

extern const char* const kUsage;

/** The command line. */
Options read_options(int count, char** words);
