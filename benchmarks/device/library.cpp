#include "library.h"

#include <dlfcn.h>

#include "error.h"

Library::Library(const std::string& path, const std::vector<std::string>& usual) {
    const std::vector<std::string> names = path.empty() ? usual : std::vector<std::string>{path};
    std::string reason;
    for (const std::string& name : names) {
        handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle_) {
            path_ = name;
            return;
        }
        if (reason.empty()) reason = dlerror();
    }
    throw Error("the engine's library cannot be opened (" + reason + "); name it with --library");
}

Symbol Library::find(const char* name) const { return Symbol(dlsym(handle_, name)); }

Symbol Library::symbol(const char* name) const {
    void* address = dlsym(handle_, name);
    if (!address) throw Error(path_ + " has no " + name + "; it is of another version");
    return Symbol(address);
}

std::string Library::folder() const {
    const size_t slash = path_.rfind('/');
    return slash == std::string::npos ? "." : path_.substr(0, slash);
}
