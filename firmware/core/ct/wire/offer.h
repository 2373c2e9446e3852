// An image that the platform offers (dn/fw), and what the node says of it (up/res).
#pragma once

#include <array>

#include "ct/bytes.h"
#include "ct/wire/json.h"
#include "ct/wire/version.h"

namespace ct::wire {

constexpr std::size_t largest_offer = 4096;
constexpr std::size_t longest_url = 512;
constexpr std::size_t longest_hardware = 32;

// A short text with the zero behind it, that stays when the message is gone.
template <std::size_t capacity>
struct Short {
    std::array<char, capacity + 1> letters = {};

    // False: it is too long, and nothing is there.
    bool set(std::string_view text) {
        letters = {};
        if (text.size() > capacity) {
            return false;
        }
        for (std::size_t at = 0; at < text.size(); ++at) {
            letters[at] = text[at];
        }
        return true;
    }
    std::string_view view() const { return letters.data(); }
};

using Version = Short<longest_version>;
using Sha256 = std::array<std::uint8_t, 32>;

// The texts are views of the message.
struct Offer {
    enum class Kind {
        nothing,     // no offer at all
        withdrawal,
        broken,      // its version can be read, the rest cannot
        image,
    };
    Kind kind = Kind::nothing;
    std::string_view version;
    std::string_view hardware;
    std::string_view url;
    std::uint32_t size = 0;
    std::string_view sha256_hex;
    Sha256 sha256 = {};
    std::array<std::uint8_t, 80> signature = {};
    std::size_t signature_size = 0;
    std::uint32_t jitter_s = 0;
    std::string_view least;   // the oldest version that may take it; empty: any
    bool is_forced = false;   // also where it is not newer
};

Offer read_offer(std::string_view text);

// The text that the signature is over.
void write_signed_text(json::Writer& out, const Offer& offer);

enum class UpdateState : std::uint8_t { waiting, downloading, verifying, rebooting, confirmed, failed, rolled_back };

void write_update(json::Writer& out, std::string_view version, UpdateState state, unsigned percent,
                  std::string_view error);

}  // namespace ct::wire
