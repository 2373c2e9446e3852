#include "ct/wire/version.h"

namespace ct::wire {

namespace {

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }
bool is_word_letter(char letter) {
    return is_digit(letter) || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '-';
}

// Takes the text up to one of these marks off the front. string_view::substr could throw.
std::string_view take(std::string_view& text, std::string_view marks) {
    std::size_t size = 0;
    while (size < text.size() && marks.find(text[size]) == std::string_view::npos) {
        ++size;
    }
    const std::string_view taken(text.data(), size);
    text.remove_prefix(size);
    return taken;
}

bool is_number(std::string_view word) {
    for (const char letter : word) {
        if (!is_digit(letter)) {
            return false;
        }
    }
    return !word.empty();
}

bool has_leading_zero(std::string_view word) { return word.size() > 1 && word[0] == '0'; }

bool are_words(std::string_view text, bool may_lead_with_zero) {
    while (true) {
        const std::string_view word = take(text, ".");
        for (const char letter : word) {
            if (!is_word_letter(letter)) {
                return false;
            }
        }
        if (word.empty() || (!may_lead_with_zero && is_number(word) && has_leading_zero(word))) {
            return false;
        }
        if (text.empty()) {
            return true;
        }
        text.remove_prefix(1);
    }
}

// Numbers of any length, without leading zeros.
int compare_numbers(std::string_view left, std::string_view right) {
    if (left.size() != right.size()) {
        return left.size() < right.size() ? -1 : 1;
    }
    return left.compare(right);
}

int compare_words(std::string_view left, std::string_view right) {
    const bool is_left_number = is_number(left), is_right_number = is_number(right);
    if (is_left_number && is_right_number) {
        return compare_numbers(left, right);
    }
    if (is_left_number != is_right_number) {
        return is_left_number ? -1 : 1;
    }
    return left.compare(right);
}

int compare_pre_releases(std::string_view left, std::string_view right) {
    if (left.empty() || right.empty()) {  // a release is newer than what came before it
        return left.empty() == right.empty() ? 0 : left.empty() ? 1 : -1;
    }
    while (!left.empty() && !right.empty()) {
        left.remove_prefix(1);  // the - or the point
        right.remove_prefix(1);
        if (const int order = compare_words(take(left, "."), take(right, ".")); order != 0) {
            return order;
        }
    }
    return left.empty() == right.empty() ? 0 : left.empty() ? -1 : 1;
}

}  // namespace

bool is_version(std::string_view text) {
    if (text.size() > longest_version) {
        return false;
    }
    for (unsigned part = 0; part < 3; ++part) {
        const std::string_view number = take(text, part < 2 ? "." : "-+");
        if (!is_number(number) || has_leading_zero(number) || (part < 2 && text.empty())) {
            return false;
        }
        if (part < 2) {
            text.remove_prefix(1);
        }
    }
    const std::string_view pre_release = take(text, "+");
    if (!pre_release.empty() && !are_words({pre_release.data() + 1, pre_release.size() - 1}, false)) {
        return false;
    }
    return text.empty() || are_words({text.data() + 1, text.size() - 1}, true);
}

int compare_versions(std::string_view left, std::string_view right) {
    for (unsigned part = 0; part < 3; ++part) {
        const std::string_view marks = part < 2 ? "." : "-+";
        if (const int order = compare_numbers(take(left, marks), take(right, marks)); order != 0) {
            return order;
        }
        left.remove_prefix(part < 2 ? 1 : 0);
        right.remove_prefix(part < 2 ? 1 : 0);
    }
    return compare_pre_releases(take(left, "+"), take(right, "+"));
}

}  // namespace ct::wire
