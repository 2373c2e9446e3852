#include "ct/wire/json.h"

#include <cstring>
#include <limits>

namespace ct::json {

// --- writing

void Writer::put(char letter) {
    if (size_ < capacity_) {
        buffer_[size_++] = letter;
    } else {
        is_whole_ = false;
    }
}

Writer& Writer::raw(std::string_view text) {
    if (text.size() <= capacity_ - size_) {
        std::memcpy(buffer_ + size_, text.data(), text.size());
        size_ += text.size();
    } else {
        is_whole_ = false;
    }
    return *this;
}

Writer& Writer::number(std::int64_t value) { return scaled(value, 0); }

Writer& Writer::scaled(std::int64_t value, unsigned decimals) {
    char digits[24];
    std::size_t count = 0;
    std::uint64_t rest = value < 0 ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
    while (decimals > 0 && rest % 10 == 0) {
        rest /= 10;
        --decimals;
    }
    do {
        if (count == decimals && decimals > 0) {
            digits[count++] = '.';
            decimals = 0;
        }
        digits[count++] = static_cast<char>('0' + rest % 10);
        rest /= 10;
    } while (rest > 0 || decimals > 0);
    if (value < 0) {
        put('-');
    }
    while (count > 0) {
        put(digits[--count]);
    }
    return *this;
}

Writer& Writer::text(std::string_view text) {
    constexpr char hex[] = "0123456789abcdef";
    put('"');
    for (const char letter : text) {
        const auto code = static_cast<unsigned char>(letter);
        if (letter == '"' || letter == '\\') {
            put('\\');
            put(letter);
        } else if (code < 0x20) {
            raw("\\u00");
            put(hex[code >> 4]);
            put(hex[code & 0xFU]);
        } else {
            put(letter);
        }
    }
    put('"');
    return *this;
}

// --- reading

namespace {

// As substr, which would throw where `at` is beyond the end: here it is empty.
std::string_view part(std::string_view text, std::size_t at, std::size_t count) {
    at = at < text.size() ? at : text.size();
    return {text.data() + at, count < text.size() - at ? count : text.size() - at};
}

constexpr std::size_t wrong = std::numeric_limits<std::size_t>::max();

bool is_space(char letter) { return letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r'; }
bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

int hex_digit(char letter) {
    if (is_digit(letter)) {
        return letter - '0';
    }
    if (letter >= 'a' && letter <= 'f') {
        return letter - 'a' + 10;
    }
    return letter >= 'A' && letter <= 'F' ? letter - 'A' + 10 : -1;
}

std::size_t skip_space(std::string_view text, std::size_t at) {
    while (at < text.size() && is_space(text[at])) {
        ++at;
    }
    return at;
}

bool is_at(std::string_view text, std::size_t at, char letter) { return at < text.size() && text[at] == letter; }

// Four hexadecimal digits at `at`, or -1.
int hex_unit(std::string_view text, std::size_t at) {
    if (text.size() < at + 4) {
        return -1;
    }
    int unit = 0;
    for (std::size_t digit = at; digit < at + 4; ++digit) {
        const int value = hex_digit(text[digit]);
        if (value < 0) {
            return -1;
        }
        unit = unit * 16 + value;
    }
    return unit;
}

// Behind the escape whose backslash is at `at`. A surrogate counts only with its other half.
std::size_t skip_escape(std::string_view text, std::size_t at) {
    if (at + 1 >= text.size()) {
        return wrong;
    }
    if (text[at + 1] != 'u') {
        return std::strchr("\"\\/bfnrt", text[at + 1]) != nullptr && text[at + 1] != '\0' ? at + 2 : wrong;
    }
    const int unit = hex_unit(text, at + 2);
    if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF)) {
        return wrong;
    }
    if (unit < 0xD800 || unit > 0xDBFF) {
        return at + 6;
    }
    if (!is_at(text, at + 6, '\\') || !is_at(text, at + 7, 'u')) {
        return wrong;
    }
    const int low = hex_unit(text, at + 8);
    return low >= 0xDC00 && low <= 0xDFFF ? at + 12 : wrong;
}

// Behind one character of UTF-8 with its first byte at `at` (RFC 3629: no surrogates, nothing overlong).
std::size_t skip_utf8(std::string_view text, std::size_t at) {
    const auto first = static_cast<unsigned char>(text[at]);
    if (first < 0x80) {
        return at + 1;
    }
    const std::size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || text.size() - at <= more) {
        return wrong;
    }
    const auto second = static_cast<unsigned char>(text[at + 1]);
    const unsigned lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (second < lowest || second > highest) {
        return wrong;
    }
    for (std::size_t next = at + 2; next <= at + more; ++next) {
        if ((static_cast<unsigned char>(text[next]) & 0xC0U) != 0x80) {
            return wrong;
        }
    }
    return at + more + 1;
}

std::size_t skip_text(std::string_view text, std::size_t at) {
    if (!is_at(text, at, '"')) {
        return wrong;
    }
    ++at;
    while (at < text.size() && text[at] != '"') {
        if (static_cast<unsigned char>(text[at]) < 0x20) {
            return wrong;
        }
        at = text[at] == '\\' ? skip_escape(text, at) : skip_utf8(text, at);
        if (at == wrong) {
            return wrong;
        }
    }
    return at < text.size() ? at + 1 : wrong;
}

std::size_t skip_digits(std::string_view text, std::size_t at) {
    if (at >= text.size() || !is_digit(text[at])) {
        return wrong;
    }
    while (at < text.size() && is_digit(text[at])) {
        ++at;
    }
    return at;
}

std::size_t skip_number(std::string_view text, std::size_t at) {
    at = is_at(text, at, '-') ? at + 1 : at;
    at = is_at(text, at, '0') ? at + 1 : skip_digits(text, at);
    if (at != wrong && is_at(text, at, '.')) {
        at = skip_digits(text, at + 1);
    }
    if (at != wrong && (is_at(text, at, 'e') || is_at(text, at, 'E'))) {
        ++at;
        at = skip_digits(text, is_at(text, at, '+') || is_at(text, at, '-') ? at + 1 : at);
    }
    return at;
}

std::size_t skip_word(std::string_view text, std::size_t at, std::string_view word) {
    return part(text, at, word.size()) == word ? at + word.size() : wrong;
}

std::size_t skip_value(std::string_view text, std::size_t at, unsigned deeper);

// Behind an array or object whose bracket is at `at`.
std::size_t skip_many(std::string_view text, std::size_t at, bool is_object, unsigned deeper) {
    const char end = is_object ? '}' : ']';
    at = skip_space(text, at + 1);
    if (is_at(text, at, end)) {
        return at + 1;
    }
    while (true) {
        if (is_object) {
            at = skip_text(text, skip_space(text, at));
            if (at == wrong) {
                return wrong;
            }
            at = skip_space(text, at);
            if (!is_at(text, at, ':')) {
                return wrong;
            }
            ++at;
        }
        at = skip_value(text, at, deeper);
        if (at == wrong) {
            return wrong;
        }
        at = skip_space(text, at);
        if (is_at(text, at, end)) {
            return at + 1;
        }
        if (!is_at(text, at, ',')) {
            return wrong;
        }
        ++at;
    }
}

std::size_t skip_value(std::string_view text, std::size_t at, unsigned deeper) {
    at = skip_space(text, at);
    if (at >= text.size()) {
        return wrong;
    }
    switch (text[at]) {
        case '{':
        case '[':
            return deeper == 0 ? wrong : skip_many(text, at, text[at] == '{', deeper - 1);
        case '"':
            return skip_text(text, at);
        case 't':
            return skip_word(text, at, "true");
        case 'f':
            return skip_word(text, at, "false");
        case 'n':
            return skip_word(text, at, "null");
        default:
            return skip_number(text, at);
    }
}

constexpr unsigned any_depth = std::numeric_limits<unsigned>::max();

char* put_utf8(char* to, const char* end, unsigned code) {
    const std::size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (static_cast<std::size_t>(end - to) < size) {
        return nullptr;
    }
    if (size == 1) {
        *to = static_cast<char>(code);
        return to + 1;
    }
    for (std::size_t at = size - 1; at > 0; --at) {
        to[at] = static_cast<char>(0x80U | (code & 0x3FU));
        code >>= 6;
    }
    constexpr unsigned leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    *to = static_cast<char>(leads[size] | code);
    return to + size;
}

// The character that an escape stands for; `at` is that of its letter and is moved behind it.
unsigned escaped(std::string_view text, std::size_t& at) {
    const char letter = text[at++];
    switch (letter) {
        case 'b': return '\b';
        case 'f': return '\f';
        case 'n': return '\n';
        case 'r': return '\r';
        case 't': return '\t';
        case 'u': break;
        default: return static_cast<unsigned char>(letter);
    }
    auto code = static_cast<unsigned>(hex_unit(text, at));
    at += 4;
    if (code >= 0xD800 && code <= 0xDBFF) {
        const auto low = static_cast<unsigned>(hex_unit(text, at + 2));
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
    }
    return code;
}

}  // namespace

std::optional<Value> parse(std::string_view text, unsigned deepest) {
    const std::size_t end = skip_value(text, 0, deepest);
    if (end == wrong || skip_space(text, end) != text.size()) {
        return std::nullopt;
    }
    const std::size_t begin = skip_space(text, 0);
    return Value(part(text, begin, end - begin));
}

Kind Value::kind() const {
    switch (text_[0]) {
        case '{': return Kind::object;
        case '[': return Kind::array;
        case '"': return Kind::text;
        case 't':
        case 'f': return Kind::boolean;
        case 'n': return Kind::null;
        default: return Kind::number;
    }
}

Value::Walk::Walk(const Value& of) : text_(of.text_) {
    is_object_ = of.kind() == Kind::object;
    at_ = is_object_ || of.kind() == Kind::array ? 1 : text_.size();
}

bool Value::Walk::next() {
    at_ = skip_space(text_, at_);
    if (at_ + 1 >= text_.size()) {
        return false;
    }
    if (text_[at_] == ',') {
        at_ = skip_space(text_, at_ + 1);
    }
    if (is_object_) {
        const std::size_t end = skip_text(text_, at_);
        name_ = part(text_, at_ + 1, end - at_ - 2);
        at_ = skip_space(text_, end) + 1;
    }
    at_ = skip_space(text_, at_);
    const std::size_t end = skip_value(text_, at_, any_depth);
    value_ = part(text_, at_, end - at_);
    at_ = end;
    return true;
}

std::optional<Value> Value::member(std::string_view name) const {
    if (kind() != Kind::object) {
        return std::nullopt;
    }
    for (Walk walk(*this); walk.next();) {
        if (walk.name() == name) {
            return walk.value();
        }
    }
    return std::nullopt;
}

bool Value::has_twice(std::string_view name) const {
    unsigned times = 0;
    if (kind() == Kind::object) {
        for (Walk walk(*this); walk.next();) {
            times += walk.name() == name ? 1U : 0U;
        }
    }
    return times > 1;
}

std::optional<std::int64_t> Value::integer() const {
    if (kind() != Kind::number) {
        return std::nullopt;
    }
    const bool is_negative = text_[0] == '-';
    std::int64_t value = 0;
    for (const char letter : part(text_, is_negative ? 1 : 0, text_.size())) {
        if (!is_digit(letter) || value > (std::numeric_limits<std::int64_t>::max() - 9) / 10) {
            return std::nullopt;
        }
        value = value * 10 + (letter - '0');
    }
    return is_negative ? -value : value;
}

std::optional<double> Value::number() const {
    if (kind() != Kind::number) {
        return std::nullopt;
    }
    std::size_t at = text_[0] == '-' ? 1 : 0;
    double value = 0.0;
    int exponent = 0;
    for (bool is_fraction = false; at < text_.size() && text_[at] != 'e' && text_[at] != 'E'; ++at) {
        if (text_[at] == '.') {
            is_fraction = true;
        } else {
            value = value * 10.0 + (text_[at] - '0');
            exponent -= is_fraction ? 1 : 0;
        }
    }
    if (at < text_.size()) {
        const char sign = text_[at + 1];
        int written = 0;
        for (at += sign == '+' || sign == '-' ? 2 : 1; at < text_.size(); ++at) {
            written = written < 1000 ? written * 10 + (text_[at] - '0') : written;
        }
        exponent += sign == '-' ? -written : written;
    }
    double power = 1.0;
    for (int step = 0; step < (exponent < 0 ? -exponent : exponent) && step < 400; ++step) {
        power *= 10.0;
    }
    value = exponent < 0 ? value / power : value * power;
    if (!(value <= std::numeric_limits<double>::max())) {
        return std::nullopt;
    }
    return text_[0] == '-' ? -value : value;
}

std::optional<bool> Value::boolean() const {
    if (kind() != Kind::boolean) {
        return std::nullopt;
    }
    return text_[0] == 't';
}

std::optional<std::string_view> Value::plain_text() const {
    if (kind() != Kind::text || text_.find('\\') != std::string_view::npos) {
        return std::nullopt;
    }
    return part(text_, 1, text_.size() - 2);
}

std::optional<std::string_view> Value::copy_text(char* buffer, std::size_t capacity) const {
    if (kind() != Kind::text) {
        return std::nullopt;
    }
    const std::string_view inner = part(text_, 1, text_.size() - 2);
    char* to = buffer;
    const char* const end = buffer + capacity;
    for (std::size_t at = 0; at < inner.size();) {
        if (inner[at] == '\\') {
            ++at;
            to = put_utf8(to, end, escaped(inner, at));
        } else if (to < end) {
            *to++ = inner[at++];
        } else {
            to = nullptr;
        }
        if (to == nullptr) {
            return std::nullopt;
        }
    }
    return std::string_view(buffer, static_cast<std::size_t>(to - buffer));
}

}  // namespace ct::json
