#include "ct/wire/command.h"

namespace ct::wire {

namespace {

using json::Value;
using Kind = Command::Kind;

struct Known {
    std::string_view name;
    Kind kind;
    const char* amount;  // name of its argument; nullptr: it has none
    std::int64_t least, most;
};

constexpr Known known_commands[] = {
    {"alarm", Kind::alarm, nullptr, 0, 0},
    {"ping", Kind::ping, nullptr, 0, 0},
    {"identify", Kind::identify, "seconds", 1, 300},
    {"reboot", Kind::reboot, nullptr, 0, 0},
    {"silence", Kind::silence, "minutes", 0, 1440},
    {"maintenance", Kind::maintenance, "minutes", 0, 1440},
    {"zero_cal", Kind::zero_cal, nullptr, 0, 0},
    {"span_cal", Kind::span_cal, "ppm", 1, 1000000},
    {"diag", Kind::diag, nullptr, 0, 0},
};

bool is_hex(char letter) { return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'f'); }
bool is_word(char letter) {
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') || letter == '_';
}

// The text in a word of its own, where it is short enough and has nothing but such letters.
bool copy(std::optional<Value> value, bool (*is_right)(char), Command::Word& to) {
    const auto text = value ? value->plain_text() : std::nullopt;
    if (!text || text->size() >= to.size()) {
        return false;
    }
    for (const char letter : *text) {
        if (!is_right(letter)) {
            return false;
        }
    }
    to = {};
    for (std::size_t at = 0; at < text->size(); ++at) {
        to[at] = (*text)[at];
    }
    return true;
}

bool read_alarm(const Value& body, Command& command) {
    const auto id = body.member("id");
    const auto is_on = body.member("on");
    const std::int64_t number = id ? id->integer().value_or(-1) : -1;
    if (number < 0 || !is_on || is_on->kind() != json::Kind::boolean) {
        return false;
    }
    command.alarm = static_cast<std::uint64_t>(number);
    command.is_on = is_on->boolean() == true;
    if (const auto level = body.member("level")) {
        command.level = severity_of(level->plain_text().value_or("")).value_or(store::Severity::warning);
    }
    return true;
}

// Whether the arguments are those that the command needs.
bool read_args(const std::optional<Value>& args, const Known& known, Command& command) {
    if (args && args->kind() != json::Kind::object) {
        return false;
    }
    if (known.amount == nullptr) {
        return true;
    }
    const auto value = args ? args->member(known.amount) : std::nullopt;
    const auto number = value ? value->number() : std::nullopt;
    if (!number || !(*number >= static_cast<double>(known.least) && *number <= static_cast<double>(known.most))) {
        return false;
    }
    if (known.kind == Kind::span_cal) {
        command.ppm = static_cast<float>(*number);
        return true;
    }
    command.amount = static_cast<std::uint32_t>(*number);
    return !(*number > command.amount);
}

std::string_view word_of(Outcome outcome) {
    switch (outcome) {
        case Outcome::accepted: return "accepted";
        case Outcome::done: return "done";
        case Outcome::failed: return "failed";
        case Outcome::expired: return "expired";
        case Outcome::unknown: return "unknown";
    }
    return "unknown";
}

void write_diagnosis(json::Writer& out, const Diagnosis& found) {
    out.raw(R"("uptime_s":)").number(found.uptime_s).raw(R"(,"boot":)").number(found.boot);
    out.raw(R"(,"heap_free_kib":)");
    if (found.heap_free_kib == 0) {
        out.null();
    } else {
        out.number(found.heap_free_kib);
    }
    out.raw(R"(,"ring_used":)").number(found.ring_used).raw(R"(,"ring_capacity":)").number(found.ring_capacity);
    out.raw(R"(,"erasures":)").number(found.erasures).raw(R"(,"reconnects":)").number(found.reconnects);
    out.raw(R"(,"frame_errors":)").number(found.frame_errors);
    out.raw(R"(,"drift_ppm":)").scaled(static_cast<std::int64_t>(std::round(found.drift_ppm * 10.0F)), 1);
    out.raw(R"(,"firmware":)").text(found.firmware).raw(R"(,"mode":)").text(found.mode);
    out.raw(R"(,"reset_cause":)").text(found.reset_cause);
}

}  // namespace

std::optional<Command> read_command(std::string_view text) {
    if (text.size() > largest_command) {
        return std::nullopt;
    }
    const auto body = json::parse(text);
    if (!body || body->kind() != json::Kind::object) {
        return std::nullopt;
    }
    for (const char* name : {"v", "id", "cmd", "args", "exp", "on", "level"}) {
        if (body->has_twice(name)) {
            return std::nullopt;  // which of the two is meant, nobody knows
        }
    }
    const auto version = body->member("v") ? body->member("v")->integer() : std::nullopt;
    if (version != 1) {
        return std::nullopt;
    }
    Command command;
    copy(body->member("cmd"), is_word, command.name);
    const Known* known = nullptr;
    for (const Known& candidate : known_commands) {
        known = candidate.name == command.name.data() ? &candidate : known;
    }
    command.kind = known != nullptr ? known->kind : Kind::unknown;
    if (command.kind == Kind::alarm) {
        return read_alarm(*body, command) ? std::optional<Command>(command) : std::nullopt;
    }
    if (!copy(body->member("id"), is_hex, command.id) || command.id[7] == '\0') {
        return std::nullopt;
    }
    if (const auto expires = body->member("exp")) {
        const std::int64_t when_ms = expires->integer().value_or(-1);
        command.are_args_right = when_ms >= 0;
        command.expires_ms = when_ms >= 0 ? static_cast<std::uint64_t>(when_ms) : 0;
    }
    if (known != nullptr && !read_args(body->member("args"), *known, command)) {
        command.are_args_right = false;
    }
    return command;
}

void write_result(json::Writer& out, std::string_view id, std::string_view command, Outcome outcome,
                  std::string_view error, const Diagnosis* diagnosis) {
    out.raw(R"({"v":1,"id":)").text(id).raw(R"(,"cmd":)").text(command).raw(R"(,"st":)").text(word_of(outcome));
    out.raw(R"(,"res":{)");
    if (diagnosis != nullptr) {
        write_diagnosis(out, *diagnosis);
    }
    out.raw(R"(},"err":)").text(error).raw("}");
}

}  // namespace ct::wire
