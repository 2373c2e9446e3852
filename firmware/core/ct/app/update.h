// A new program from afar (dn/fw): checked, fetched, checked again, tried, kept or given up.
//
//     idle --offer--> waiting --> fetching <--> pausing
//                                    |
//                                 checking --> told to restart --> (boot loader) --> on trial --> confirmed
//                                                                                       |
//                                                       the old program again <--(no receipt, crashes)
//
// Whoever calls it hands on what the platform says (it is the node's listener for dn/fw) and calls `step` after the
// node's. A step does one small piece of work, a few KiB, so sampling never waits for it.
//
// In the key-value store:
//     fw_image     what is being fetched, and how much of it is there to stay; until it was confirmed or given up
//     fw_outcome   how the last one ended, and whether the platform knows
#pragma once

#include "ct/app/node.h"
#include "ct/hal/update.h"
#include "ct/wire/offer.h"

namespace ct::app {

struct UpdateSettings {
    std::string_view version = "0.1.0";   // of the program that runs
    std::string_view hardware = "ct-1";
    std::string_view key;                 // PEM; where it is empty, the one that was provisioned
    std::uint32_t trial_ms = 900000;      // of uptime without any receipt; then a new program is given up
    std::uint32_t longest_pause_ms = 900000;  // between two attempts to fetch it
};

struct UpdateEdges {
    hal::Slots& slots;
    hal::Download& download;
    hal::Crypto& crypto;
    hal::KeyValue& values;
    hal::Random& random;
};

class Update final : public net::Listener {
public:
    // `room` is used within calls only: the session's will do.
    using Room = std::array<char, wire::largest_message>;

    Update(const UpdateEdges& edges, const UpdateSettings& settings, Room& room)
        : edges_(edges), settings_(settings), room_(room) {}

    // Before the node begins: what became of the last one.
    void open();
    void step(Node& node, std::uint64_t now_ms);

    bool is_on_trial() const { return is_on_trial_; }
    // Whether something is being fetched or about to be.
    bool is_busy() const { return stage_ != Stage::idle; }

    void take(std::string_view channel, std::string_view payload, std::uint64_t now_ms) override;
    void went_online(std::uint64_t now_ms) override;
    void went_offline(std::uint64_t now_ms) override;
    void was_receipted(std::uint64_t now_ms) override;
    void has_landed(int said, std::uint64_t now_ms) override;

private:
    enum class Stage { idle, waiting, fetching, pausing, checking, ready, telling, leaving };

    struct Image {
        wire::Version version;
        std::uint32_t size = 0;
        wire::Sha256 sha256 = {};
    };
    struct Outcome {
        enum class Kind : std::uint8_t { none, confirmed, rolled_back };
        Kind kind = Kind::none;
        bool is_told = true;
        wire::Version version;
        wire::Sha256 sha256 = {};
    };
    // Something for the platform, until it has arrived.
    struct Report {
        wire::Version version;
        wire::UpdateState state = wire::UpdateState::failed;
        unsigned percent = 0;
        wire::Short<12> error;
        bool is_due = false;
        int said = 0;

        bool is_open() const { return is_due || said != 0; }
    };

    void consider(const wire::Offer& offer, std::uint64_t now_ms);
    std::string_view refusal_of(const wire::Offer& offer);
    bool is_signed(const wire::Offer& offer);
    bool is_same(const wire::Offer& offer) const;
    void accept(const wire::Offer& offer, std::uint64_t now_ms);
    void withdraw();
    std::string_view own_version() const;
    void start(std::uint64_t now_ms);
    void fetch(std::uint64_t now_ms);
    void take_bytes(const hal::Download::Piece& piece, std::uint64_t now_ms);
    void pause(int status, std::string_view error, std::uint64_t now_ms);
    void begin_check();
    void check(std::uint64_t now_ms);
    void check_failed(std::uint64_t now_ms);
    void install(const net::Session& session);
    void fail(std::string_view error);
    void report(wire::UpdateState state, unsigned percent, std::string_view error = {});
    void report_of(const wire::Offer& offer, wire::UpdateState state, std::string_view error = {});
    void say(net::Session& session, Report& what, std::uint64_t now_ms);
    unsigned percent() const;

    void read_kept();
    bool keep_image();
    void read_outcome();
    bool keep_outcome();
    void end_with(Outcome::Kind kind, const wire::Version& version, const wire::Sha256& sha256);

    const UpdateEdges edges_;
    const UpdateSettings settings_;
    Room& room_;

    Stage stage_ = Stage::idle;
    bool is_on_trial_ = false;
    bool was_receipted_ = false;
    Image image_;                       // that is wanted
    wire::Short<wire::longest_url> url_;
    std::uint64_t due_ms_ = 0;          // waiting, pausing: until then; fetching: without a byte for no longer than that
    bool is_slot_open_ = false;         // for this image, and `written_` is where it goes on
    std::uint32_t written_ = 0;
    std::uint32_t checked_ = 0;
    unsigned attempts_ = 0;             // without a single new byte
    unsigned refusals_ = 0;             // by the server, in a row
    unsigned bad_hashes_ = 0;
    unsigned told_percent_ = 0;

    bool has_kept_ = false;
    Image kept_;                        // what the store knows of
    std::uint32_t kept_bytes_ = 0;
    Outcome outcome_;
    std::optional<wire::Sha256> hopeless_;  // an image whose bytes were wrong twice; since this start
    Report progress_;
    Report ending_;                     // of the last one, from the store
};

}  // namespace ct::app
