#include "engine.h"

#include "error.h"

void check_tensor(const char* kind, const std::string& tensor, bool same) {
    if (!same)
        throw Error(std::string(kind) + " " + tensor +
                    " has another shape or type in the model than in the plan");
}

size_t index_of(const char* kind, const std::vector<Binding>& bindings, const std::string& tensor) {
    for (size_t i = 0; i < bindings.size(); ++i)
        if (bindings[i].tensor == tensor) return i;
    throw Error("the model has an " + std::string(kind) + " " + tensor + " that the plan lacks");
}
