// JSON out of and into bounded buffers: nothing is allocated, nothing is copied until somebody asks for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ct::json {

// Writes into a buffer that the caller owns. What does not fit is not written, and `is_whole` says so.
class Writer {
public:
    Writer(char* buffer, std::size_t capacity) : buffer_(buffer), capacity_(capacity) {}

    Writer& raw(std::string_view text);
    Writer& number(std::int64_t value);
    // `value` is in units of 10^-decimals: 18325 with 2 decimals is 183.25. Zeros at the end are left out.
    Writer& scaled(std::int64_t value, unsigned decimals);
    Writer& text(std::string_view text);
    Writer& null() { return raw("null"); }

    bool is_whole() const { return is_whole_; }
    std::string_view written() const { return {buffer_, is_whole_ ? size_ : 0}; }

private:
    void put(char letter);

    char* buffer_;
    std::size_t capacity_;
    std::size_t size_ = 0;
    bool is_whole_ = true;
};

enum class Kind { object, array, text, number, boolean, null };

// One value of a document that was found to be right. It is a view: the text must outlive it.
class Value {
public:
    Kind kind() const;

    // The member of an object; none where this is no object, or has no such member. Names with escapes are not found.
    std::optional<Value> member(std::string_view name) const;
    // Whether an object has the same name twice.
    bool has_twice(std::string_view name) const;

    // A whole number without fraction and exponent, if it fits.
    std::optional<std::int64_t> integer() const;
    std::optional<double> number() const;
    std::optional<bool> boolean() const;
    // The text between the quotes as it stands; none where there are escapes in it.
    std::optional<std::string_view> plain_text() const;
    // The text with its escapes resolved, as UTF-8 in `buffer`; none where it does not fit.
    std::optional<std::string_view> copy_text(char* buffer, std::size_t capacity) const;

    // The elements of an array, or the members of an object, one after the other.
    class Walk {
    public:
        explicit Walk(const Value& of);
        bool next();
        std::string_view name() const { return name_; }  // as it stands, without quotes; empty in an array
        Value value() const { return Value(value_); }

    private:
        std::string_view text_;
        std::size_t at_ = 0;
        bool is_object_ = false;
        std::string_view name_;
        std::string_view value_;
    };

    std::string_view as_written() const { return text_; }

private:
    friend std::optional<Value> parse(std::string_view text, unsigned deepest);
    explicit Value(std::string_view text) : text_(text) {}

    std::string_view text_;
};

// Checks the whole text, strictly by RFC 8259 and as UTF-8: what is not JSON in any place is not read at all.
// `deepest` bounds arrays and objects within each other, and with that the stack.
std::optional<Value> parse(std::string_view text, unsigned deepest = 8);

}  // namespace ct::json
