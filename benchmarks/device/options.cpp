#include "options.h"

#include <cstdlib>
#include <map>
#include <set>

#include "error.h"

const char* const kUsage =
    "usage: movinet-edge-step FOLDER --engine NAME [options]\n"
    "\n"
    "Replays the golden stream of a prepared folder, times steps, prints one JSON.\n"
    "\n"
    "  --engine NAME    litert, onnxruntime or tflite (the classic interpreter)\n"
    "  --library PATH   the engine's shared library (default: where the system finds it)\n"
    "  --delegate NAME  none, xnnpack, nnapi or gpu (default: the engine's own choice)\n"
    "  --threads N      threads of the engine (default 1)\n"
    "  --steps N        timed steps (default 200)\n"
    "  --rate FPS       one step when its frames are there, not one after the other\n"
    "  --minutes N      steps for so long, whatever their number\n";

namespace {

double number(const std::string& option, const std::string& text, double least) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end || !(value >= least && value < 1e9))
        throw Error(option + " takes a number, not '" + text + "'");
    return value;
}

std::string one_of(const std::string& option, const std::string& text,
                   const std::set<std::string>& allowed) {
    if (allowed.count(text)) return text;
    std::string list;
    for (const std::string& word : allowed) list += (list.empty() ? "" : ", ") + word;
    throw Error(option + " is one of " + list + ", not '" + text + "'");
}

using Reader = void (*)(Options&, const std::string& option, const std::string& text);

const std::map<std::string, Reader> kReaders = {
    {"--engine",
     [](Options& options, const std::string& name, const std::string& text) {
         options.engine = one_of(name, text, {"litert", "onnxruntime", "tflite"});
     }},
    {"--library",
     [](Options& options, const std::string&, const std::string& text) {
         options.how.library = text;
     }},
    {"--delegate",
     [](Options& options, const std::string& name, const std::string& text) {
         options.how.delegate = one_of(name, text, {"none", "xnnpack", "nnapi", "gpu"});
     }},
    {"--threads",
     [](Options& options, const std::string& name, const std::string& text) {
         options.how.threads = static_cast<int>(number(name, text, 1));
     }},
    {"--steps",
     [](Options& options, const std::string& name, const std::string& text) {
         options.pace.steps = static_cast<size_t>(number(name, text, 1));
     }},
    {"--rate",
     [](Options& options, const std::string& name, const std::string& text) {
         options.pace.rate = number(name, text, 1e-3);
     }},
    {"--minutes",
     [](Options& options, const std::string& name, const std::string& text) {
         options.pace.minutes = number(name, text, 1e-3);
     }},
};

}  // namespace

Options read_options(int count, char** words) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word == "--help") {
            options.help = true;
            return options;
        }
        const auto reader = kReaders.find(word);
        if (reader != kReaders.end()) {
            if (++i == count) throw Error(word + " needs a value");
            reader->second(options, word, words[i]);
        } else if (word.rfind("--", 0) == 0 || !options.folder.empty()) {
            throw Error("there is no option " + word + "; see --help");
        } else {
            options.folder = word;
        }
    }
    if (options.folder.empty() || options.engine.empty())
        throw Error("a prepared folder and --engine are needed; see --help");
    return options;
}
