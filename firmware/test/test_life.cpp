// A node's life against a platform that keeps the protocol, while everything between them fails: half a day in a second.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "node_world.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("life");

namespace {

constexpr std::uint64_t utc_ms = 1795433047123;
constexpr std::uint64_t sample_ms = 5000;

struct Dice {
    std::uint64_t state;
    std::uint32_t below(std::uint32_t end) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::uint32_t>(state >> 33) % end;
    }
    bool once_in(std::uint32_t times) { return below(times) == 0; }
};

// The other side of docs/protocol.md: what is stored, what is declared lost, and the watermark over both.
class Platform {
public:
    std::map<std::int64_t, std::int64_t> stored;  // number to what was measured, in tenths of a ppm; -1 for other kinds
    std::set<std::int64_t> lost;

    void take(const Sent& message) {
        if (message.is_on("up/state")) {
            if (message.json().member("online")->boolean() == true) {
                declare_lost(1, message.number("first") - 1);
            }
            return;
        }
        const std::int64_t first = message.number("seq");
        std::int64_t rows = 0;
        for (const char* kind : {"s", "m", "h", "e", "g", "a"}) {
            const auto block = message.json().member(kind);
            if (!block) {
                continue;
            }
            for (json::Value::Walk walk(block->member("rows").value()); walk.next(); ++rows) {
                take_row(kind[0], walk.value(), first);
            }
        }
        CHECK(rows == message.number("n"));
    }

    std::int64_t watermark() {
        while (has(watermark_ + 1)) {
            ++watermark_;
        }
        return watermark_;
    }

    // Restored from a backup: the newest of what it had is gone.
    void forget(std::int64_t records) {
        const std::int64_t from = watermark() - records;
        stored.erase(stored.upper_bound(from), stored.end());
        lost.erase(lost.upper_bound(from), lost.end());
        watermark_ = std::min(watermark_, from > 0 ? from : 0);
    }

private:
    bool has(std::int64_t seq) const { return stored.count(seq) > 0 || lost.count(seq) > 0; }

    void declare_lost(std::int64_t from, std::int64_t to) {
        for (std::int64_t seq = std::max(from, watermark() + 1); seq <= to; ++seq) {
            if (stored.count(seq) == 0) {
                lost.insert(seq);
            }
        }
    }

    void take_row(char kind, const json::Value& row, std::int64_t first) {
        std::vector<json::Value> values;
        for (json::Value::Walk walk(row); walk.next();) {
            values.push_back(walk.value());
        }
        const std::int64_t seq = first + values[0].integer().value();
        const std::int64_t content = kind == 's' ? std::llround(values[3].number().value() * 10.0) : -1;
        const auto [at, is_new] = stored.emplace(seq, content);
        CHECK_MESSAGE(at->second == content, "a number came with another content");
        if (is_new && kind == 'g') {
            declare_lost(values[3].integer().value(), std::min(values[4].integer().value(), seq - 1));
        }
    }

    std::int64_t watermark_ = 0;
};

// The node, the platform, and everything in between that may fail.
class World {
public:
    World(std::uint32_t sector_size, std::uint32_t sectors, std::uint64_t seed)
        : flash_(sector_size, sectors), dice_{seed} {
        start();
    }

    void live(std::uint64_t ms) {
        for (const std::uint64_t end = all_ms_ + ms; all_ms_ < end;) {
            fail_now_and_then();
            measure();
            for (unsigned second = 0; second < 5 && !flash_.is_off(); ++second) {
                pass_a_second();
            }
            all_ms_ += sample_ms;
            if (flash_.is_off()) {
                note_in_flight();
                flash_.power_on();
                start();
            }
        }
    }

    // Nothing fails any more, and nothing is measured: in the end the platform has everything.
    bool settle() {
        mqtt_.accepts = mqtt_.acknowledges = true;
        are_things_failing_ = false;
        flash_.power_on();
        for (unsigned second = 0; second < 6 * 3600; ++second) {
            pass_a_second();
            if (ring_->unreceipted() == 0 && platform.watermark() == ring_->next_seq() - 1) {
                return true;
            }
        }
        return false;
    }

    Platform platform;
    std::map<std::int64_t, std::int64_t> kept;  // what the node was told that it keeps
    unsigned boots = 0, cuts = 0, restores = 0, unheard = 0;

    std::uint32_t last() const { return ring_->next_seq() - 1; }

private:
    void start() {
        now_ms_ = 0;
        mqtt_.disconnect();
        ring_.emplace(flash_);
        REQUIRE(ring_->open(0x9F3C21AA));
        ++boots;
        settle_in_flight();
        clock_.emplace();
        net::Settings settings;
        settings.device_id = "dev-001";
        session_.emplace(*ring_, mqtt_, random_, *clock_, site_, settings);
        session_->begin(0);
    }

    void fail_now_and_then() {
        random_.value = dice_.below(1U << 20);
        if (dice_.once_in(150)) {
            mqtt_.cut();
            ++cuts;
        }
        if (dice_.once_in(mqtt_.accepts ? 500 : 60)) {
            mqtt_.accepts = !mqtt_.accepts;
            mqtt_.cut();
        }
        if (dice_.once_in(mqtt_.acknowledges ? 400 : 10)) {
            mqtt_.acknowledges = !mqtt_.acknowledges;
        }
        if (dice_.once_in(200)) {
            flash_.cut_at(flash_.operations() + dice_.below(40), FakeFlash::tears[dice_.below(5)]);
        }
        if (dice_.once_in(2500)) {
            platform.forget(dice_.below(400));
            ++restores;
        }
        if (now_ms_ > 60000 && !clock_->is_set()) {
            if (clock_->set(utc_ms + all_ms_, now_ms_, net::Clock::Source::sntp)) {
                append(store::Anchor{utc_ms + all_ms_, now_ms_});
            }
        }
    }

    void measure() {
        store::Sample sample;
        sample.co2_tenth_ppm = in_flight_ = ++serial_;
        const std::uint32_t seq = append(sample);
        if (seq != 0) {
            CHECK_MESSAGE(kept.count(seq) == 0, "a number was used twice");
            kept[seq] = serial_;
            in_flight_ = 0;
        }
    }

    std::uint32_t append(const store::Content& content) {
        store::Record record;
        record.time_ms = clock_->time_ms(now_ms_);
        record.clock = clock_->quality(now_ms_);
        record.cfg = site_.cfg;
        record.content = content;
        return ring_->append(record) ? record.seq : 0;
    }

    void pass_a_second() {
        now_ms_ += 1000;
        session_->step(now_ms_);
        bool is_due = false;
        for (const Sent& message : mqtt_.sent) {
            if (are_things_failing_ && dice_.once_in(40)) {
                ++unheard;  // the broker has said PUBACK, and the platform has never seen it
                continue;
            }
            platform.take(message);
            is_due = true;
        }
        mqtt_.sent.clear();
        if (is_due && platform.watermark() > 0 && !(are_things_failing_ && dice_.once_in(5))) {
            mqtt_.receipt("9f3c21aa", static_cast<std::uint64_t>(platform.watermark()));
        }
    }

    // A record that was being written when the power went may be whole, and then it counts.
    void note_in_flight() { was_in_flight_ = in_flight_; }
    void settle_in_flight() {
        store::Record record;
        if (was_in_flight_ != 0 && ring_->newest_of(0, record) &&
            std::get<store::Sample>(record.content).co2_tenth_ppm == was_in_flight_) {
            kept[record.seq] = was_in_flight_;
        }
        was_in_flight_ = in_flight_ = 0;
    }

    FakeFlash flash_;
    FakeMqtt mqtt_;
    FakeRandom random_;
    Dice dice_;
    wire::Site site_;
    std::optional<store::Ring> ring_;
    std::optional<net::Clock> clock_;
    std::optional<net::Session> session_;
    std::uint64_t now_ms_ = 0;
    std::uint64_t all_ms_ = 0;  // since the beginning, over all boots
    std::int32_t serial_ = 0;
    std::int32_t in_flight_ = 0, was_in_flight_ = 0;
    bool are_things_failing_ = true;
};

// A whole node that is configured and told what to do, while it crashes and everything around it fails.
class Estate : public NodeWorld {
public:
    explicit Estate(std::uint64_t seed) : dice_{seed} {
        flash = FakeFlash(4096, 80);
        REQUIRE(start());
    }

    void live(std::uint64_t seconds) {
        for (std::uint64_t second = 0; second < seconds; ++second) {
            fail_now_and_then();
            want_something();
            pass_a_second();
        }
    }

    // Nothing fails any more; whether in the end everything is as the platform wants it.
    bool settle() {
        are_things_failing_ = false;
        mqtt.accepts = mqtt.acknowledges = true;
        want_rev();
        for (unsigned second = 0; second < 6 * 3600; ++second) {
            pass_a_second();
            if (node->cfg() == wanted_ && open_.empty() && node->session().is_running() &&
                node->ring().unreceipted() <= 2) {
                return true;
            }
        }
        return false;
    }

    Platform platform;
    unsigned boots = 0, crashes = 0, cuts = 0, refused = 0, reboots = 0, reboots_asked = 0, safe_modes = 0;
    std::map<std::string, std::string> commands;  // id to the newest state
    std::set<std::uint16_t> reverted;
    std::uint16_t wanted() const { return wanted_; }
    // Each revision has a sample time of its own, so that one sees what a record was measured with.
    static unsigned sample_s_of(unsigned rev) { return 2 + rev % 7; }

private:
    void fail_now_and_then() {
        random.value = dice_.below(1U << 20);
        if (dice_.once_in(700)) {
            mqtt.cut();
        }
        if (dice_.once_in(mqtt.accepts ? 2500 : 200)) {
            mqtt.accepts = !mqtt.accepts;
            mqtt.cut();
        }
        if (dice_.once_in(mqtt.acknowledges ? 2000 : 40)) {
            mqtt.acknowledges = !mqtt.acknowledges;
        }
        if (dice_.once_in(1500)) {
            flash.cut_at(flash.operations() + dice_.below(40), FakeFlash::tears[dice_.below(5)]);
        }
        if (dice_.once_in(400)) {
            values.cut_at = values.writes + dice_.below(3);
            values.is_done_at_cut = dice_.once_in(2);
        }
        if (dice_.once_in(++since_wish_s_ < 12 ? 60 : 1500)) {  // often with what is new
            ++crashes;
            begin_again(dice_.once_in(2) ? hal::ResetCause::panic : hal::ResetCause::watchdog);
        }
    }

    void want_something() {
        if (dice_.once_in(300)) {
            want_rev();
        }
        if (dice_.once_in(400)) {
            char id[9];
            wire::write_sid(id, ++serial_);
            const std::string name = dice_.once_in(3) ? "reboot" : "ping";
            const std::string body =
                R"({"v":1,"id":")" + std::string(id) + R"(","cmd":")" + name + R"(","args":{}})";
            reboots_asked += name == "reboot" ? 1U : 0U;
            open_[id] = body;
            mqtt.say("ct/v1/dev-001/dn/cmd", body);
        }
    }

    void want_rev() {
        ++wanted_;
        since_wish_s_ = 0;
        say_config();
    }

    void say_config() {
        mqtt.say("ct/v1/dev-001/dn/config", R"({"v":1,"rev":)" + std::to_string(wanted_) + R"(,"sample_s":)" +
                                                std::to_string(sample_s_of(wanted_)) + R"(,"readings":2,"warm_up_s":0})");
    }

    void pass_a_second() {
        pass(1000, 500);
        if (flash.is_off() || values.is_off) {
            ++cuts;
            begin_again(hal::ResetCause::poweron);  // and nothing that the fake node said without power is heard
            return;
        }
        bool is_due = false;
        const auto sent = mqtt.sent;
        mqtt.sent.clear();
        for (const Sent& message : sent) {
            if (message.is_on("up/config")) {
                take_config_answer(message);
            } else if (message.is_on("up/res")) {
                take_result(message);
            } else if (!(are_things_failing_ && dice_.once_in(40))) {  // else it was never seen, in spite of its PUBACK
                platform.take(message);
                is_due = true;
                if (message.is_on("up/state") && message.json().member("online")->boolean() == true) {
                    answer_birth(message);
                }
            }
        }
        if (is_due && platform.watermark() > 0 && !(are_things_failing_ && dice_.once_in(5))) {
            char sid[9];
            wire::write_sid(sid, node->ring().sid());
            mqtt.receipt(sid, static_cast<std::uint64_t>(platform.watermark()));
        }
        if (machine.reboots > 0) {
            ++reboots;
            begin_again(hal::ResetCause::software);
        }
    }

    void begin_again(hal::ResetCause cause) {
        flash.power_on();
        values.power_on();
        const bool accepts = mqtt.accepts;
        REQUIRE(start(cause));
        mqtt.accepts = accepts;
        ++boots;
        safe_modes += node->is_safe_mode() ? 1U : 0U;
    }

    void answer_birth(const Sent& birth) {
        const auto cfg = birth.number("cfg");
        CHECK(cfg <= wanted_);
        if (cfg != wanted_ && reverted.count(wanted_) == 0 && wanted_ > 0) {
            say_config();
        }
        for (const auto& [id, body] : open_) {
            mqtt.say("ct/v1/dev-001/dn/cmd", body);
        }
    }

    void take_config_answer(const Sent& answer) {
        const auto rev = static_cast<std::uint16_t>(answer.number("rev"));
        if (answer.json().member("ok")->boolean() == false) {
            ++refused;
            CHECK_MESSAGE(answer.body.find("reverted") != std::string::npos, answer.body);
            reverted.insert(rev);
        } else {
            CHECK(answer.number("active") >= rev);
        }
    }

    void take_result(const Sent& result) {
        const std::string id = text(result.json(), "id");
        const std::string state = text(result.json(), "st");
        const bool is_busy = result.body.find("busy") != std::string::npos;  // with another reboot
        CHECK_MESSAGE((state == "done" || state == "accepted" || is_busy), result.body);
        CHECK_MESSAGE(!(commands[id] == "done" && state == "accepted"), "what is done is not begun again");
        commands[id] = state;
        if (state != "accepted") {
            open_.erase(id);
        }
    }

    Dice dice_;
    bool are_things_failing_ = true;
    std::uint16_t wanted_ = 0;
    unsigned since_wish_s_ = 1000;
    std::uint32_t serial_ = 0x10000000;
    std::map<std::string, std::string> open_;
};

constexpr std::uint64_t half_a_day_ms = 12ULL * 3600 * 1000;

}  // namespace

TEST_CASE("as long as the store is large enough, the platform has everything in the end, and nothing is declared lost") {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(seed);
        World world(4096, 80, seed);  // 10,000 records: more than half a day
        world.live(half_a_day_ms);
        REQUIRE(world.settle());
        CHECK(world.platform.lost.empty());
        CHECK(world.platform.stored.size() == world.last());
        for (const auto& [seq, measured] : world.kept) {
            REQUIRE(world.platform.stored.count(seq) == 1);
            REQUIRE(world.platform.stored.at(seq) == measured);
        }
        CHECK(world.kept.size() > 8000);
        CHECK(world.boots > 20);
        CHECK(world.cuts > 30);
        CHECK(world.unheard > 50);
    }
}

TEST_CASE("where it is far too small, every number is stored or declared lost, and what is stored is true") {
    std::size_t lost = 0;
    for (std::uint64_t seed = 11; seed <= 14; ++seed) {
        CAPTURE(seed);
        World world(512, 8, seed);  // 105 records: under nine minutes
        world.live(half_a_day_ms);
        REQUIRE(world.settle());
        for (const auto& [seq, measured] : world.kept) {
            const auto found = world.platform.stored.find(seq);
            if (found == world.platform.stored.end()) {
                REQUIRE(world.platform.lost.count(seq) == 1);
            } else {
                REQUIRE(found->second == measured);
            }
        }
        lost += world.platform.lost.size();
        CHECK(world.platform.stored.size() > world.kept.size() / 2);
    }
    CHECK(lost > 1000);
}

TEST_CASE("configured, told to reboot, crashing and cut off, a node works in the end as the platform wants it") {
    unsigned refused = 0, cuts = 0, reboots = 0;
    for (std::uint64_t seed = 21; seed <= 24; ++seed) {
        CAPTURE(seed);
        Estate estate(seed);
        estate.live(12 * 3600);
        REQUIRE(estate.settle());
        CHECK(estate.platform.lost.empty());
        CHECK(estate.node->config().sample_s == Estate::sample_s_of(estate.wanted()));
        if (estate.safe_modes == 0) {
            CHECK_MESSAGE(estate.reboots <= estate.reboots_asked, "no reboot is done twice");
        }
        CHECK(estate.crashes > 20);
        refused += estate.refused;
        cuts += estate.cuts;
        reboots += estate.reboots;
    }
    CHECK(refused > 4);
    CHECK(cuts > 40);
    CHECK(reboots > 40);
}

TEST_SUITE_END();
