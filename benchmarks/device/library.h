#pragma once

#include <string>
#include <vector>

/** A function of a library, of whatever type its user declares. */
class Symbol {
public:
    explicit Symbol(void* address) : address_(address) {}

    template <class Function>
    operator Function*() const {
        return reinterpret_cast<Function*>(address_);
    }

private:
    void* address_;
};

/** A shared library that is opened at run time and stays open: engines start threads. */
class Library {
public:
    /** Opens `path`, or where it is empty the first of `usual` that the system finds. */
    Library(const std::string& path, const std::vector<std::string>& usual);

    /** A function that must be there. */
    Symbol symbol(const char* name) const;

    /** A function, null where the library lacks it. */
    Symbol find(const char* name) const;

    /** The file that was opened. */
    const std::string& path() const { return path_; }

    /** Its folder, where engines look for their plugins. */
    std::string folder() const;

private:

    void* handle_ = nullptr;
    std::string path_;
};
