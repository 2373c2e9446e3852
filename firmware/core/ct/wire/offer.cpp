#include "ct/wire/offer.h"

namespace ct::wire {

namespace {

using json::Value;

constexpr std::int64_t largest_image = 0x7FFFFFFF;
constexpr std::int64_t longest_jitter_s = 86400;

std::string_view text_of(const Value& body, std::string_view name) {
    const auto value = body.member(name);
    return value ? value->plain_text().value_or("") : std::string_view();
}

std::int64_t number_of(const Value& body, std::string_view name, std::int64_t otherwise) {
    const auto value = body.member(name);
    return value ? value->integer().value_or(-1) : otherwise;
}

bool are_printable(std::string_view text) {
    for (const char letter : text) {
        if (letter <= ' ' || letter >= 0x7F) {
            return false;
        }
    }
    return !text.empty();
}

bool begins_with(std::string_view text, std::string_view with) {
    return text.size() > with.size() && std::string_view(text.data(), with.size()) == with;
}

int hex_digit(char letter) {
    if (letter >= '0' && letter <= '9') {
        return letter - '0';
    }
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

bool read_hex(std::string_view text, Sha256& to) {
    if (text.size() != 2 * to.size()) {
        return false;
    }
    for (std::size_t at = 0; at < to.size(); ++at) {
        const int high = hex_digit(text[2 * at]), low = hex_digit(text[2 * at + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        to[at] = static_cast<std::uint8_t>(high * 16 + low);
    }
    return true;
}

int base64_digit(char letter) {
    if (letter >= 'A' && letter <= 'Z') {
        return letter - 'A';
    }
    if (letter >= 'a' && letter <= 'z') {
        return letter - 'a' + 26;
    }
    if (letter >= '0' && letter <= '9') {
        return letter - '0' + 52;
    }
    return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

// RFC 4648 with padding. How many bytes it gave; 0 where it is not right or does not fit.
std::size_t read_base64(std::string_view text, std::uint8_t* to, std::size_t capacity) {
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') {
        ++padding;
    }
    const std::size_t size = text.size() / 4 * 3 - padding;
    if (text.empty() || text.size() % 4 != 0 || size > capacity) {
        return 0;
    }
    std::uint32_t bits = 0;
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const bool is_padding = at >= text.size() - padding;
        const int digit = is_padding ? 0 : base64_digit(text[at]);
        if (digit < 0) {
            return 0;
        }
        bits = bits << 6 | static_cast<std::uint32_t>(digit);
        for (unsigned byte = 0; at % 4 == 3 && byte < 3 && done < size; ++byte) {
            to[done++] = static_cast<std::uint8_t>(bits >> (16 - 8 * byte));
        }
    }
    return size;
}

// Everything but the version, which is there already. False: it cannot be read.
bool read_image(const Value& body, Offer& offer) {
    offer.hardware = text_of(body, "hw");
    offer.url = text_of(body, "url");
    offer.sha256_hex = text_of(body, "sha256");
    const std::int64_t size = number_of(body, "size", -1);
    const std::int64_t jitter_s = number_of(body, "jitter_s", 0);
    const bool has_http = begins_with(offer.url, "https://") || begins_with(offer.url, "http://");
    if (!are_printable(offer.hardware) || offer.hardware.size() > longest_hardware || !has_http ||
        !are_printable(offer.url) || offer.url.size() > longest_url || size < 1 || size > largest_image ||
        jitter_s < 0 || jitter_s > longest_jitter_s || !read_hex(offer.sha256_hex, offer.sha256)) {
        return false;
    }
    offer.size = static_cast<std::uint32_t>(size);
    offer.jitter_s = static_cast<std::uint32_t>(jitter_s);
    offer.signature_size = read_base64(text_of(body, "sig"), offer.signature.data(), offer.signature.size());
    if (const auto least = body.member("min"); least && least->kind() != json::Kind::null) {
        offer.least = least->plain_text().value_or("");
        if (!is_version(offer.least)) {
            return false;
        }
    }
    if (const auto force = body.member("force")) {
        if (force->kind() != json::Kind::boolean) {
            return false;
        }
        offer.is_forced = force->boolean() == true;
    }
    return true;
}

std::string_view word_of(UpdateState state) {
    switch (state) {
        case UpdateState::waiting: return "waiting";
        case UpdateState::downloading: return "downloading";
        case UpdateState::verifying: return "verifying";
        case UpdateState::rebooting: return "rebooting";
        case UpdateState::confirmed: return "confirmed";
        case UpdateState::failed: return "failed";
        case UpdateState::rolled_back: return "rolled_back";
    }
    return "failed";
}

}  // namespace

Offer read_offer(std::string_view text) {
    Offer offer;
    const auto body = text.size() <= largest_offer ? json::parse(text) : std::nullopt;
    if (!body || body->kind() != json::Kind::object || number_of(*body, "v", -1) != 1 || body->has_twice("v") ||
        body->has_twice("ver")) {
        return offer;
    }
    const auto version = body->member("ver");
    if (version && version->kind() == json::Kind::null) {
        offer.kind = Offer::Kind::withdrawal;
        return offer;
    }
    offer.version = text_of(*body, "ver");
    if (!is_version(offer.version)) {
        return offer;
    }
    offer.kind = read_image(*body, offer) ? Offer::Kind::image : Offer::Kind::broken;
    for (const char* name : {"hw", "url", "size", "sha256", "sig", "jitter_s", "min", "force"}) {
        if (body->has_twice(name)) {
            offer.kind = Offer::Kind::broken;  // which of the two is meant, nobody knows
        }
    }
    return offer;
}

void write_signed_text(json::Writer& out, const Offer& offer) {
    out.raw("CARBONTRACK-FIRMWARE-1\n").raw(offer.version).raw("\n").raw(offer.hardware).raw("\n");
    out.number(offer.size).raw("\n").raw(offer.sha256_hex).raw("\n");
}

void write_update(json::Writer& out, std::string_view version, UpdateState state, unsigned percent,
                  std::string_view error) {
    out.raw(R"({"v":1,"cmd":"ota","ver":)").text(version).raw(R"(,"st":)").text(word_of(state));
    out.raw(R"(,"pct":)").number(percent).raw(R"(,"err":)").text(error).raw("}");
}

}  // namespace ct::wire
