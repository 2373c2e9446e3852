// What a machine has to have so that its program can be replaced from afar: two places for programs, a way to fetch one,
// and the arithmetic to find out whether it is the right one. Nothing here waits.
#pragma once

#include <string_view>

#include "ct/bytes.h"

namespace ct::hal {

// Two places (slots) for a program. One runs, the other can be written. A new program runs on trial first: where it does
// not confirm itself, the boot loader goes back to the one before, at the latest at the start after `most_trials`.
class Slots {
public:
    static constexpr unsigned most_trials = 3;  // starts on trial without being confirmed
    // A download is resumed only at a multiple of this; so a sector that was half written is erased and written anew.
    static constexpr std::uint32_t resume_step = 64 * 1024;

    enum class Running {
        confirmed,
        on_trial,   // it is new, and nobody has confirmed it
        came_back,  // a new one has failed its trial, and this one runs again; until `confirm`
    };

    // How many bytes a program may have.
    virtual std::uint32_t capacity() = 0;
    virtual Running running() = 0;

    // A program of so many bytes is going to be written. What is there of it before `from_byte` (0, or a multiple of
    // `resume_step`) stays. From here on the slot cannot be started before `finish`.
    virtual bool begin(std::uint32_t size, std::uint32_t from_byte) = 0;
    // The next bytes; each call takes a few KiB at most, and erases no more than it needs. True: they are there to stay.
    virtual bool write(Bytes bytes) = 0;
    // What was written, to be checked.
    virtual bool read(std::uint32_t at, std::uint8_t* to, std::size_t size) = 0;
    // All is written and right: the next start is of it, on trial, with ResetCause::ota.
    virtual bool finish() = 0;

    // The program that runs is a good one.
    virtual bool confirm() = 0;
    // The program that runs is none: the next start is of the one before, which will find that it `came_back`.
    virtual bool go_back() = 0;

protected:
    ~Slots() = default;
};

// Fetches a file by HTTP GET, one at a time, with the device's id and password (Basic). It follows no redirections: the
// password is not for others.
class Download {
public:
    struct Piece {
        enum class Kind {
            nothing,  // yet
            bytes,
            end,      // of the answer, whether the file is whole or not
            failed,
        };
        Kind kind = Kind::nothing;
        std::uint32_t at = 0;   // bytes: where in the file they are. A server may begin at 0, whatever it was asked for
        std::size_t size = 0;
        int status = 0;         // failed: of HTTP; 0: there was no answer, or no whole one
    };

    // Asks for the file from a byte on. False: it never will, for this address.
    virtual bool start(std::string_view url, std::uint32_t from_byte) = 0;
    virtual Piece poll(std::uint8_t* to, std::size_t capacity) = 0;
    // Nobody wants the rest. It may be called at any time.
    virtual void stop() = 0;

protected:
    ~Download() = default;
};

class Crypto {
public:
    static constexpr std::size_t hash_size = 32;

    // SHA-256, piece by piece; one at a time.
    virtual void begin_hash() = 0;
    virtual void add(Bytes bytes) = 0;
    virtual void end_hash(std::uint8_t (&to)[hash_size]) = 0;

    // Whether `signature` (ECDSA on P-256 with SHA-256, DER) over `text` is of the owner of this public key (PEM).
    virtual bool is_signed(std::string_view key, std::string_view text, Bytes signature) = 0;

protected:
    ~Crypto() = default;
};

}  // namespace ct::hal
