#pragma once

#include <cstdio>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

/** Writes one JSON value, piece by piece; commas and quotes are its own care. */
class Json {
public:
    explicit Json(std::ostream& out) : out_(out) {}

    Json& open(char bracket) {
        separate();
        out_ << bracket;
        fresh_ = true;
        return *this;
    }

    Json& close(char bracket) {
        out_ << bracket;
        fresh_ = false;
        return *this;
    }

    Json& key(const std::string& name) {
        value(name);
        out_ << ':';
        fresh_ = true;
        return *this;
    }

    Json& value(const std::string& text) {
        separate();
        out_ << '"';
        for (const char c : text) {
            if (c == '"' || c == '\\') out_ << '\\';
            const bool control = static_cast<unsigned char>(c) < 0x20;
            out_ << (control ? ' ' : c);
        }
        out_ << '"';
        return *this;
    }

    Json& value(const char* text) { return value(std::string(text)); }
    Json& value(bool yes) { return raw(yes ? "true" : "false"); }
    Json& value(size_t number) { return raw(std::to_string(number)); }

    /** Nine digits: a float comes back as it was. JSON has no infinities: these become null. */
    Json& value(double number) {
        if (!(number - number == 0)) return raw("null");
        char text[32];
        std::snprintf(text, sizeof(text), "%.9g", number);
        return raw(text);
    }

    template <class Value>
    Json& value(const std::optional<Value>& maybe) {
        return maybe ? value(*maybe) : raw("null");
    }

    template <class Value>
    Json& value(const std::vector<Value>& values) {
        open('[');
        for (const Value& one : values) value(static_cast<double>(one));
        return close(']');
    }

    template <class Value>
    Json& field(const std::string& name, const Value& content) {
        return key(name).value(content);
    }

private:
    void separate() {
        if (!fresh_) out_ << ',';
        fresh_ = false;
    }

    Json& raw(const std::string& text) {
        separate();
        out_ << text;
        return *this;
    }

    std::ostream& out_;
    bool fresh_ = true;  // no comma before what comes next
};
