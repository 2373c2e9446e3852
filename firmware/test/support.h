// What several tests need: the golden files that the platform's tests read too.
#pragma once

#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ct/wire/json.h"

namespace ct::test {

inline std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw std::runtime_error("cannot read " + path);
    }
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

// The text of a golden file; a document that our own reader must be able to read whole.
class Golden {
public:
    explicit Golden(const std::string& name) : text_(read_file(std::string(VECTORS) + "/" + name)) {
        const auto root = json::parse(text_, 16);
        if (!root) {
            throw std::runtime_error(name + " is not JSON");
        }
        root_ = root;
    }
    json::Value root() const { return *root_; }

private:
    std::string text_;
    std::optional<json::Value> root_;
};

inline std::string text(const json::Value& value) {
    std::string buffer(value.as_written().size(), '\0');
    const auto copied = value.copy_text(buffer.data(), buffer.size());
    if (!copied) {
        throw std::runtime_error("not a text: " + std::string(value.as_written()));
    }
    return std::string(*copied);
}

inline std::string text(const json::Value& of, const char* name) { return text(of.member(name).value()); }

inline std::vector<std::uint8_t> bytes_of_hex(const std::string& hex) {
    std::vector<std::uint8_t> bytes;
    std::istringstream words(hex);
    for (std::string word; words >> word;) {
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(word, nullptr, 16)));
    }
    return bytes;
}

// A number by its name; NaN where it is null or not there.
inline double number(const json::Value& of, const char* name) {
    const auto value = of.member(name);
    return value && value->number() ? *value->number() : std::numeric_limits<double>::quiet_NaN();
}

inline bool agrees(double found, double expected) {
    if (std::isnan(expected) || std::isnan(found)) {
        return std::isnan(expected) && std::isnan(found);
    }
    return std::fabs(found - expected) <= 5e-6 * std::fabs(expected) + 1e-12;
}

}  // namespace ct::test
