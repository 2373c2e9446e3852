#include "ct/app/provision.h"

namespace ct::app {

namespace {

using json::Kind;
using json::Value;

// Whether a text can be meant. Control characters are in no value but a certificate's line ends.
using Check = bool (*)(std::string_view);

bool is_printable(std::string_view text) {
    for (const char letter : text) {
        if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7F) {
            return false;
        }
    }
    return true;
}

bool is_id(std::string_view text) {
    for (const char letter : text) {
        if (letter == '/' || letter == '+' || letter == '#' || letter == '$' || letter == ' ') {
            return false;
        }
    }
    return is_printable(text);
}

bool is_host(std::string_view text) {
    for (const char letter : text) {
        const bool is_letter = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
        const bool is_digit = letter >= '0' && letter <= '9';
        if (!is_letter && !is_digit && letter != '.' && letter != '-' && letter != ':') {
            return false;
        }
    }
    return true;
}

bool begins_with(std::string_view text, std::string_view beginning) {
    return text.size() >= beginning.size() && std::string_view(text.data(), beginning.size()) == beginning;
}

bool is_pem(std::string_view text) { return begins_with(text, "-----BEGIN ") && text.find('\0') == text.npos; }

struct Field {
    const char* name;
    std::size_t least, most;
    Check check;
    bool is_secret;  // `show` says only whether it is there
};

constexpr Field fields[] = {
    {credential::id, 1, 64, is_id, false},
    {credential::password, 1, 128, is_printable, true},
    {credential::wifi_ssid, 1, 32, is_printable, false},
    {credential::wifi_password, 8, 64, is_printable, true},
    {credential::host, 1, 253, is_host, false},
    {credential::ca, 1, Provision::largest_text, is_pem, true},
    {credential::cert, 1, Provision::largest_text, is_pem, true},
    {credential::key, 1, Provision::largest_text, is_pem, true},
    {credential::hardware, 1, 32, is_id, false},
    {credential::firmware_key, 1, 1024, is_pem, true},
};

constexpr const char* cut_name = "prov_cut";  // there while a line is being written
constexpr const char* needed[] = {credential::id, credential::password, credential::host};

bool is_kept(hal::KeyValue& values, const char* name) {
    std::uint8_t none = 0;
    return values.get(name, &none, 0).value_or(0) > 0;
}

bool takes_away(const Value& value) { return value.kind() == Kind::null || value.as_written() == "\"\""; }

// Whether it will be there when the line is done.
bool will_be_there(hal::KeyValue& values, const Value& body, const char* name) {
    const auto value = body.member(name);
    return value ? !takes_away(*value) : is_kept(values, name);
}

Bytes bytes_of(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

}  // namespace

bool Provision::is_complete(hal::KeyValue& values) {
    bool is_whole = !is_kept(values, cut_name);
    for (const char* const name : needed) {
        is_whole = is_whole && is_kept(values, name);
    }
    return is_whole;
}

void Provision::take(std::string_view line, json::Writer& out) {
    bool is_empty = true;
    for (const char letter : line) {
        is_empty = is_empty && (letter == ' ' || letter == '\t');
    }
    if (is_empty) {
        return;
    }
    wire::Problems problems;
    const auto body = line.size() <= largest_line ? json::parse(line) : std::nullopt;
    if (!body || body->kind() != Kind::object) {
        problems.add("", "syntax");
    } else if (const auto given = body->member("provision")) {
        if (given->kind() == Kind::object) {
            provision(*given, out);
            return;
        }
        problems.add("provision", "type");
    } else if (const auto is_asked = body->member("show"); is_asked && is_asked->boolean() == true) {
        show(out);
        return;
    } else {
        problems.add("", "value");
    }
    out.raw(R"({"ok":false,"errors":)");
    problems.write(out);
    out.raw("}");
}

void Provision::provision(const Value& body, json::Writer& out) {
    wire::Problems problems;
    check(body, problems);
    if (problems.is_empty()) {
        check_together(body, problems);
    }
    if (problems.is_empty() && !keep(body)) {
        problems.add("", "storage");
    }
    if (problems.is_empty()) {
        out.raw(R"({"ok":true})");
        return;
    }
    out.raw(R"({"ok":false,"errors":)");
    problems.write(out);
    out.raw("}");
}

void Provision::check(const Value& body, wire::Problems& problems) {
    for (const Field& field : fields) {
        const auto value = body.member(field.name);
        if (!value || takes_away(*value)) {
            continue;
        }
        if (body.has_twice(field.name)) {
            problems.add(field.name, "syntax");
        } else if (value->kind() != Kind::text) {
            problems.add(field.name, "type");
        } else if (const auto text = value->copy_text(room_.data(), room_.size()); !text) {
            problems.add(field.name, "size");
        } else if (text->size() < field.least || text->size() > field.most) {
            problems.add(field.name, "size");
        } else if (!field.check(*text)) {
            problems.add(field.name, "value");
        }
    }
    const auto port = body.member(credential::port);
    if (port && !takes_away(*port)) {
        const std::int64_t number = port->integer().value_or(0);
        if (body.has_twice(credential::port)) {
            problems.add(credential::port, "syntax");
        } else if (port->kind() != Kind::number) {
            problems.add(credential::port, "type");
        } else if (number < 1 || number > 65535) {
            problems.add(credential::port, "range");
        }
    }
}

void Provision::check_together(const Value& body, wire::Problems& problems) {
    for (const char* const name : needed) {
        if (!will_be_there(values_, body, name)) {
            problems.add(name, "missing");
        }
    }
    const bool has_cert = will_be_there(values_, body, credential::cert);
    if (has_cert != will_be_there(values_, body, credential::key)) {
        problems.add(has_cert ? credential::key : credential::cert, "missing");
    }
}

// A line that the power cuts off leaves its mark, and then nothing of it counts until somebody says it again.
bool Provision::keep(const Value& body) {
    const std::uint8_t mark = 1;
    bool is_kept_so_far = values_.set(cut_name, {&mark, 1});
    const auto keep_one = [&](const char* name, const Value& value) {
        if (takes_away(value)) {
            return values_.erase(name);
        }
        const auto text =
            value.kind() == Kind::number ? value.as_written() : value.copy_text(room_.data(), room_.size()).value_or("");
        return values_.set(name, bytes_of(text));
    };
    for (const Field& field : fields) {
        if (const auto value = body.member(field.name)) {
            is_kept_so_far = is_kept_so_far && keep_one(field.name, *value);
        }
    }
    if (const auto port = body.member(credential::port)) {
        is_kept_so_far = is_kept_so_far && keep_one(credential::port, *port);
    }
    return is_kept_so_far && values_.erase(cut_name);
}

void Provision::show(json::Writer& out) {
    out.raw("{");
    for (const Field& field : fields) {
        if (field.is_secret) {
            out.raw(R"("has_)").raw(field.name).raw(is_kept(values_, field.name) ? R"(":true,)" : R"(":false,)");
            continue;
        }
        out.raw("\"").raw(field.name).raw("\":");
        const auto size = values_.get(field.name, reinterpret_cast<std::uint8_t*>(room_.data()), field.most);
        if (size && *size <= field.most) {
            out.text({room_.data(), *size});
        } else {
            out.null();
        }
        out.raw(",");
    }
    std::array<char, 6> digits = {};
    const auto size = values_.get(credential::port, reinterpret_cast<std::uint8_t*>(digits.data()), digits.size());
    const auto port = size && *size < digits.size() ? json::parse({digits.data(), *size}) : std::nullopt;
    out.raw(R"("port":)").number(port ? port->integer().value_or(8883) : 8883);
    out.raw(is_complete(values_) ? R"(,"complete":true})" : R"(,"complete":false})");
}

}  // namespace ct::app
