#include "plan.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "error.h"

namespace {

constexpr int kVersion = 1;

std::vector<uint8_t> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) throw Error(path + " cannot be read; prepare the folder again");
    std::vector<uint8_t> bytes(static_cast<size_t>(file.tellg()));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return bytes;
}

/** The CRC-32 of zlib: it tells a copy that was cut short or damaged on its way to a device. */
uint32_t crc32(const std::vector<uint8_t>& bytes) {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) * 0xEDB88320u);
        table[i] = value;
    }
    uint32_t sum = 0xFFFFFFFFu;
    for (uint8_t byte : bytes) sum = (sum >> 8) ^ table[(sum ^ byte) & 0xFF];
    return ~sum;
}

Type type_named(const std::string& name) {
    static const std::map<std::string, Type> types = {{"float32", Type::Float32},
                                                      {"uint8", Type::UInt8},
                                                      {"int8", Type::Int8},
                                                      {"int32", Type::Int32}};
    const auto found = types.find(name);
    if (found == types.end()) throw Error("plan.txt has a tensor of unknown type " + name);
    return found->second;
}

/** One line of the plan: a word that says what it is, then values. */
class Line {
public:
    explicit Line(const std::string& text) : text_(text), stream_(text) {}

    template <class Value>
    Value next() {
        Value value;
        if (!(stream_ >> value)) throw Error("plan.txt is damaged at '" + text_ + "'");
        return value;
    }

    bool at_end() { return (stream_ >> std::ws).eof(); }

private:
    std::string text_;
    std::istringstream stream_;
};

Ring read_ring(Line& line) {
    Ring ring;
    ring.length = line.next<size_t>();
    ring.clock = line.next<size_t>();
    ring.type = type_named(line.next<std::string>());
    ring.initial = line.next<double>();
    while (!line.at_end()) ring.shape.push_back(line.next<int64_t>());
    return ring;
}

Graph read_graph(Line& line) {
    Graph graph;
    graph.name = line.next<std::string>();
    graph.file = line.next<std::string>();
    graph.bytes = line.next<size_t>();
    graph.crc = line.next<uint32_t>();
    graph.frames = line.next<size_t>();
    return graph;
}

Binding read_binding(Line& line) {
    Binding binding;
    binding.tensor = line.next<std::string>();
    binding.ring = line.next<size_t>();
    binding.offset = line.next<int64_t>();
    return binding;
}

/** What follows a graph's line is of that graph. */
void read_line(Plan& plan, const std::string& what, Line& line) {
    const auto graph = [&]() -> Graph& {
        if (plan.graphs.empty()) throw Error("plan.txt is damaged: no graph before " + what);
        return plan.graphs.back();
    };
    const std::map<std::string, std::function<void()>> readers = {
        {"format", [&] { plan.format = line.next<std::string>(); }},
        {"frames",
         [&] {
             plan.frames = line.next<size_t>();
             plan.height = line.next<size_t>();
             plan.width = line.next<size_t>();
         }},
        {"classes", [&] { plan.classes = line.next<size_t>(); }},
        {"delay", [&] { plan.delay = line.next<size_t>(); }},
        {"mean", [&] { plan.mean = line.next<int>() != 0; }},
        {"probabilities", [&] { plan.probabilities = line.next<int>() != 0; }},
        {"ring", [&] { plan.rings.push_back(read_ring(line)); }},
        {"graph", [&] { plan.graphs.push_back(read_graph(line)); }},
        {"input", [&] { graph().inputs.push_back(read_binding(line)); }},
        {"output", [&] { graph().outputs.push_back(read_binding(line)); }},
        {"frame", [&] { graph().frame = line.next<size_t>(); }},
        {"valid", [&] { graph().valid = line.next<size_t>(); }},
        {"answer",
         [&] {
             graph().answer.ring = line.next<size_t>();
             graph().answer.scale = line.next<double>();
             graph().answer.zero_point = line.next<int64_t>();
         }},
        {"turn",
         [&] {
             const size_t number = line.next<size_t>(), every = line.next<size_t>();
             plan.turns.push_back({number, every, line.next<size_t>()});
         }},
    };
    const auto reader = readers.find(what);
    if (reader == readers.end()) throw Error("plan.txt has an unknown line '" + what + "'");
    reader->second();
}

/** Numbers that lead outside would crash far from here. */
void check_references(const Plan& plan) {
    const auto check = [](bool holds) {
        if (!holds) throw Error("plan.txt is damaged: its numbers do not agree; prepare it again");
    };
    check(!plan.turns.empty() && plan.classes > 0 && plan.frames > 0);
    for (const Ring& ring : plan.rings)
        check(ring.length > 0 && ring.clock < plan.graphs.size() && ring.elements() > 0);
    for (const Turn& turn : plan.turns) check(turn.graph < plan.graphs.size() && turn.every > 0);
    for (const Graph& graph : plan.graphs) {
        check(graph.frames > 0);
        for (const auto* bindings : {&graph.inputs, &graph.outputs})
            for (const Binding& binding : *bindings) check(binding.ring < plan.rings.size());
        for (size_t ring : {graph.frame, graph.valid, graph.answer.ring})
            check(ring == kNone || ring < plan.rings.size());
        if (graph.frame != kNone)
            check(plan.rings[graph.frame].elements() == graph.frames * plan.frame_bytes());
        if (graph.answer.ring != kNone)
            check(plan.rings[graph.answer.ring].elements() >= plan.classes);
    }
}

void check_files(const Plan& plan) {
    for (const Graph& graph : plan.graphs) {
        const std::vector<uint8_t> bytes = read_file(plan.folder + "/" + graph.file);
        if (bytes.size() != graph.bytes || crc32(bytes) != graph.crc)
            throw Error(graph.file + " is damaged (its size or sum is not the plan's); copy it again");
    }
}

}  // namespace

size_t size_of(Type type) { return type == Type::Float32 || type == Type::Int32 ? 4 : 1; }

size_t Ring::elements() const {
    size_t count = 1;
    for (int64_t side : shape) count *= static_cast<size_t>(side);
    return count;
}

size_t Plan::frames_per_step() const {
    size_t most = 1;
    for (const Graph& graph : graphs) most = std::max(most, graph.frames);
    return most;
}

Plan read_plan(const std::string& folder) {
    std::ifstream file(folder + "/plan.txt");
    std::string text;
    if (!std::getline(file, text)) throw Error("there is no plan.txt in " + folder);
    Line first(text);
    if (first.next<std::string>() != "movinet-edge-plan" || first.next<int>() != kVersion)
        throw Error("plan.txt is of another version than this runner; build and prepare again");
    Plan plan;
    plan.folder = folder;
    while (std::getline(file, text)) {
        Line line(text);
        const std::string what = line.next<std::string>();
        read_line(plan, what, line);
    }
    check_references(plan);
    plan.pixels = read_file(folder + "/frames.rgb");
    if (plan.pixels.size() != plan.frames * plan.frame_bytes())
        throw Error("frames.rgb is damaged (it has another size than the plan says); copy it again");
    check_files(plan);
    return plan;
}
