#include <doctest/doctest.h>

#include <algorithm>

#include "ct/net/session.h"
#include "fake_flash.h"
#include "fakes.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("net");

namespace {

constexpr std::uint64_t utc_ms = 1795433047123;

// Who listens, and writes down what it hears.
class Ear final : public net::Listener {
public:
    std::vector<std::string> heard;
    std::vector<int> landed;
    unsigned births = 0, losses = 0, receipts = 0;

    void take(std::string_view channel, std::string_view payload, std::uint64_t) override {
        heard.push_back(std::string(channel) + " " + std::string(payload));
    }
    void went_online(std::uint64_t) override { ++births; }
    void went_offline(std::uint64_t) override { ++losses; }
    void was_receipted(std::uint64_t) override { ++receipts; }
    void has_landed(int said, std::uint64_t) override { landed.push_back(said); }
};

// A node's store and session, with everything around them in the test's hands.
struct World {
    explicit World(std::uint32_t sectors = 40) : flash(512, sectors) { start(); }

    FakeFlash flash;
    FakeMqtt mqtt;
    FakeRandom random;
    wire::Site site;
    std::uint64_t now_ms = 0;
    std::optional<store::Ring> ring;
    std::optional<net::Clock> clock;
    std::optional<net::Session> session;
    Ear ear;

    // As after the power has come back: only the flash is as it was.
    void start() {
        now_ms = 0;
        mqtt = FakeMqtt();
        ring.emplace(flash);
        REQUIRE(ring->open(0x9F3C21AA));
        clock.emplace();
        clock->set(utc_ms, 0, net::Clock::Source::sntp);
        net::Settings settings;
        settings.device_id = "dev-001";
        session.emplace(*ring, mqtt, random, *clock, site, settings);
        session->set_listener(&ear);
        session->begin(now_ms);
    }
    void add(unsigned count) {
        for (unsigned number = 0; number < count; ++number) {
            store::Record record;
            record.time_ms = clock->time_ms(now_ms);
            record.clock = clock->quality(now_ms);
            record.cfg = site.cfg;
            record.content = store::Sample();
            REQUIRE(ring->append(record));
        }
    }
    void pass(std::uint64_t ms, std::uint64_t step_ms = 100) {
        for (const std::uint64_t end = now_ms + ms; now_ms < end;) {
            now_ms += step_ms;
            session->step(now_ms);
        }
    }
    void receipt(std::uint64_t seq, const std::string& credit = "5.0") {
        mqtt.receipt("9f3c21aa", seq, credit);
        session->step(now_ms);
    }
};

std::vector<std::int64_t> from_to(std::int64_t first, std::int64_t last) {
    std::vector<std::int64_t> numbers;
    for (std::int64_t number = first; number <= last; ++number) {
        numbers.push_back(number);
    }
    return numbers;
}

}  // namespace

TEST_CASE("it subscribes to its receipts before it says its birth, and the birth is retained") {
    World world;
    world.add(3);
    world.pass(500);
    CHECK(world.mqtt.subscriptions == std::vector<std::string>{"ct/v1/dev-001/dn/#"});
    REQUIRE_FALSE(world.mqtt.sent.empty());
    const Sent& birth = world.mqtt.sent.front();
    CHECK(birth.topic == "ct/v1/dev-001/up/state");
    CHECK(birth.is_retained);
    CHECK(birth.json().member("online")->boolean() == true);
    CHECK(birth.number("first") == 1);
    CHECK(birth.number("next") == 4);
    CHECK(birth.number("cfg") == 0);
    CHECK(birth.body.find(R"("mode":"run","rst":"poweron")") != std::string::npos);
    CHECK(birth.number("conn") == json::parse(world.mqtt.will)->member("conn")->integer());
}

TEST_CASE("what is kept before the connection is backlog, in batches of 60; what comes is sent live at once") {
    World world;
    world.add(130);
    world.pass(500);
    CHECK_MESSAGE(world.mqtt.on("up/backlog").empty(), "it waits for the answer to the birth");
    world.add(2);
    world.pass(100);
    CHECK(world.mqtt.numbers_on("up/data") == from_to(131, 132));
    world.pass(10000);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(1, 130));
    CHECK(world.mqtt.on("up/backlog").size() == 3);
    CHECK(world.mqtt.on("up/data")[0].number("n") == 1);
}

TEST_CASE("the receipt that answers the birth says where to begin") {
    World world;
    world.add(130);
    world.start();  // an earlier boot may have sent them
    world.pass(500);
    world.receipt(100);
    world.pass(5000);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(101, 130));
}

TEST_CASE("backlog keeps to the granted rate, one message in flight at a time") {
    World world(80);
    world.add(900);
    world.start();
    world.pass(200);
    world.receipt(1, "2.0");
    world.pass(4000);
    CHECK(world.mqtt.on("up/backlog").size() == 9);  // one at once, then two a second
    world.receipt(1, "0");
    const auto before = world.mqtt.on("up/backlog").size();
    world.pass(10000);
    CHECK(world.mqtt.on("up/backlog").size() == before);
    world.mqtt.acknowledges = false;
    world.receipt(1, "5.0");
    world.pass(20000);
    CHECK_MESSAGE(world.mqtt.on("up/backlog").size() == before + 1, "its PUBACK has not come");
}

TEST_CASE("the tail moves only by a receipt of this stream, for a number that was sent, and that is not retained") {
    World world;
    world.add(20);
    world.pass(5000);
    REQUIRE(world.mqtt.numbers_on("up/backlog") == from_to(1, 20));
    world.mqtt.receipt("00000001", 20);
    world.mqtt.receipt("9f3c21aa", 21);
    world.mqtt.say("ct/v1/dev-001/dn/ack", R"({"sid":"9f3c21aa","seq":20})", true);
    world.mqtt.say("ct/v1/dev-002/dn/ack", R"({"sid":"9f3c21aa","seq":20})");
    world.mqtt.say("ct/v1/dev-001/dn/ack", R"({"sid":"9f3c21aa","seq":20)");
    world.pass(100);
    CHECK(world.ring->watermark() == 0);
    CHECK(world.session->counts().refused_receipts == 5);
    world.receipt(20);
    CHECK(world.ring->watermark() == 20);
}

TEST_CASE("without a receipt it is sent again after a minute, then after two, and no more often than every ten") {
    World world;
    world.add(5);
    world.pass(4000);
    const auto times = [&] { return world.mqtt.on("up/backlog").size(); };
    REQUIRE(times() == 1);
    world.pass(58000);
    CHECK(times() == 1);
    world.pass(4000);
    CHECK(times() == 2);
    world.pass(110000);
    CHECK(times() == 2);
    world.pass(20000);
    CHECK(times() == 3);
    world.pass(2 * 3600 * 1000);
    const auto before = times();
    world.pass(3600 * 1000);
    CHECK(times() - before <= 7);
    CHECK(times() - before >= 5);
    world.receipt(5);
    const auto receipted = times();
    world.pass(3600 * 1000);
    CHECK(times() == receipted);
}

TEST_CASE("live records that got no receipt are sent again as backlog") {
    World world;
    world.pass(500);
    world.add(3);
    world.pass(100);
    REQUIRE(world.mqtt.numbers_on("up/data") == from_to(1, 3));
    world.receipt(1);
    world.pass(65000);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(2, 3));
}

TEST_CASE("what was sent on a connection that broke is sent again on the next") {
    World world;
    world.pass(500);
    world.add(3);
    world.mqtt.acknowledges = false;
    world.pass(100);
    world.mqtt.cut();
    world.mqtt.acknowledges = true;
    world.pass(10000);
    CHECK(world.mqtt.attempts == 2);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(1, 3));
}

TEST_CASE("a connection on which nothing is acknowledged for a minute is given up") {
    World world;
    world.pass(500);
    world.mqtt.acknowledges = false;
    world.add(1);
    world.pass(59000);
    CHECK(world.mqtt.attempts == 1);
    world.pass(3000);
    CHECK(world.mqtt.attempts == 2);
}

TEST_CASE("attempts are spread over a span that doubles up to two minutes, and begin anew after a good connection") {
    World world;
    world.mqtt.accepts = false;
    world.random.value = 0xFFFFFFFF;  // modulo the span: somewhere within, the same each time
    world.pass(1000);
    std::vector<std::uint64_t> at;
    for (unsigned seen = world.mqtt.attempts; at.size() < 12;) {
        world.pass(100);
        if (world.mqtt.attempts != seen) {
            seen = world.mqtt.attempts;
            at.push_back(world.now_ms);
        }
    }
    for (std::size_t attempt = 1; attempt < at.size(); ++attempt) {
        CHECK(at[attempt] - at[attempt - 1] <= 120200);
    }
    world.random.value = 0;
    world.mqtt.accepts = true;
    world.pass(130000);
    REQUIRE(world.session->is_running());
    world.pass(301000);
    world.random.value = 1000;  // the whole of the first span
    world.mqtt.cut();
    world.pass(1200);
    CHECK(world.session->is_running());
}

TEST_CASE("every connection has a number of its own, over restarts too") {
    World world;
    std::vector<std::int64_t> numbers;
    for (unsigned restart = 0; restart < 4; ++restart) {
        world.start();
        for (unsigned connection = 0; connection < 20; ++connection) {
            world.pass(130000, 1000);
            REQUIRE_FALSE(world.mqtt.sent.empty());
            numbers.push_back(world.mqtt.sent.back().number("conn"));
            world.mqtt.sent.clear();
            world.mqtt.cut();
        }
    }
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
    CHECK(std::adjacent_find(numbers.begin(), numbers.end()) == numbers.end());
}

TEST_CASE("a store that ran over says so once, by a gap record and by the first number of its birth") {
    World world(5);
    world.add(200);
    world.pass(500);
    const Sent birth = world.mqtt.sent.front();
    const auto first = birth.number("first");
    CHECK(first > 100);
    CHECK(birth.number("next") == 202);
    world.pass(20000);
    CHECK(world.session->counts().gaps == 1);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(first, 201));
    const Sent last = world.mqtt.on("up/backlog").back();
    const auto gap = last.json().member("g");
    REQUIRE(gap);
    const auto rows = std::string(gap->member("rows")->as_written());
    CHECK(rows.find(",1," + std::to_string(first - 1) + ",\"overwritten\"]]") != std::string::npos);
    world.pass(100000);
    CHECK_MESSAGE(world.session->counts().resends == 1, "nobody has receipted anything");
    CHECK(world.session->counts().gaps == 1);
}

TEST_CASE("a receipt that goes back is noted, and everything that is still here is sent again") {
    World world;
    world.add(50);
    world.pass(5000);
    world.receipt(50);
    CHECK(world.ring->unreceipted() == 0);
    world.mqtt.sent.clear();
    world.receipt(20);
    world.pass(5000);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(21, 50));
    const auto live = world.mqtt.on("up/data");
    REQUIRE(live.size() == 1);
    CHECK(live[0].body.find(R"("ack_regressed","warning",1,20,50)") != std::string::npos);
}

TEST_CASE("a platform that has lost the whole stream has no receipt to give; one message finds that out") {
    World world;
    world.add(150);
    world.pass(8000);
    world.receipt(150);
    world.add(2);
    world.pass(210000);
    REQUIRE(world.session->counts().resends == 2);
    world.mqtt.sent.clear();
    world.pass(10 * 60000);
    REQUIRE(world.session->counts().resends == 3);
    auto expected = from_to(1, 60);
    expected.insert(expected.end(), {151, 152});
    CHECK_MESSAGE(world.mqtt.numbers_on("up/backlog") == expected, "no more than that: it may only be down");
    world.mqtt.sent.clear();
    world.receipt(60);
    world.pass(5000);
    CHECK(world.mqtt.numbers_on("up/backlog") == from_to(61, 152));
}

TEST_CASE("what a boot measured before it knew the time is sent with its true time once that is known") {
    World world;
    world.clock.emplace();
    world.add(2);
    world.now_ms = 10000;
    CHECK(world.clock->set(utc_ms + 10000, 10000, net::Clock::Source::sntp));
    world.add(1);
    world.pass(5000);
    const auto backlog = world.mqtt.on("up/backlog");
    REQUIRE(backlog.size() == 1);
    CHECK(backlog[0].number("t") == static_cast<std::int64_t>(utc_ms));
    CHECK(backlog[0].body.find("[[0,0,3,") != std::string::npos);
    CHECK(backlog[0].body.find("[2,10000,1,") != std::string::npos);
}

TEST_CASE("an earlier boot's records without a time stay so, in a message of their own") {
    World world;
    world.clock.emplace();
    world.now_ms = 7000;
    world.add(2);
    world.start();
    world.add(1);
    world.pass(8000);
    const auto backlog = world.mqtt.on("up/backlog");
    REQUIRE(backlog.size() == 2);
    CHECK(backlog[0].number("t") == 7000);
    CHECK(backlog[0].number("boot") == 1);
    CHECK(backlog[1].number("boot") == 2);
}

TEST_CASE("the time of a receipt is better than none, and an anchor records it") {
    World world;
    world.clock.emplace();
    world.add(1);
    world.pass(4000);
    world.receipt(1);
    CHECK(world.clock->is_set());
    CHECK(world.clock->quality(world.now_ms) == store::ClockQuality::hold_over);
    store::Record record;
    REQUIRE(world.ring->newest_of(5, record));
    CHECK(std::get<store::Anchor>(record.content).utc_ms == 1795433047456);
}

TEST_CASE("what the platform says beside receipts is handed on, unless the broker had kept it or it is another's") {
    World world;
    world.pass(500);
    CHECK(world.ear.births == 1);
    world.mqtt.say("ct/v1/dev-001/dn/cmd", "a");
    world.mqtt.say("ct/v1/dev-001/dn/config", "b", true);
    world.mqtt.say("ct/v1/dev-002/dn/cmd", "c");
    world.mqtt.say("ct/v1/dev-001/dn/", "d");
    world.mqtt.say("ct/v1/dev-001/dn/fw", "e");
    world.pass(100);
    CHECK(world.ear.heard == std::vector<std::string>{"cmd a", "fw e"});
    CHECK(world.session->counts().refused_receipts == 3);
    world.add(1);
    world.pass(100);
    world.receipt(1);
    CHECK(world.ear.receipts == 1);
}

TEST_CASE("what is said beside records lands when the broker has it; more than four at a time wait with who says it") {
    World world;
    CHECK_MESSAGE(world.session->say("res", "x", 0) == 0, "nobody is there");
    world.pass(500);
    world.mqtt.acknowledges = false;
    std::vector<int> said;
    for (unsigned number = 0; number < 5; ++number) {
        said.push_back(world.session->say("res", "{}", world.now_ms));
    }
    CHECK(said[3] != 0);
    CHECK(said[4] == 0);
    CHECK(world.mqtt.sent.back().topic == "ct/v1/dev-001/up/res");
    CHECK_FALSE(world.mqtt.sent.back().is_retained);
    world.mqtt.acknowledge(said[1]);
    world.pass(100);
    CHECK(world.ear.landed == std::vector<int>{said[1]});
    CHECK(world.session->say("config", "{}", world.now_ms) != 0);
    world.pass(61000);
    CHECK_MESSAGE(world.ear.losses == 1, "without PUBACK the connection counts as dead");
}

TEST_CASE("it says goodbye before it goes, and waits for that to arrive") {
    World world;
    world.pass(500);
    world.mqtt.acknowledges = false;
    world.session->leave(world.now_ms, "stopped");
    CHECK_FALSE(world.session->has_left());
    const Sent goodbye = world.mqtt.sent.back();
    CHECK(goodbye.body.find(R"("online":false)") != std::string::npos);
    CHECK(goodbye.is_retained);
    world.mqtt.acknowledge(goodbye.id);
    world.pass(100);
    CHECK(world.session->has_left());
}

TEST_CASE("a clock tells how it was set, how it drifts and when it was put") {
    net::Clock clock;
    CHECK_FALSE(clock.set(1000, 500, net::Clock::Source::sntp));
    CHECK(clock.quality(0) == store::ClockQuality::unset);
    CHECK(clock.time_ms(700) == 700);
    CHECK(clock.set(utc_ms, 1000, net::Clock::Source::sntp));
    CHECK(clock.time_ms(3000) == utc_ms + 2000);
    CHECK(clock.quality(3000) == store::ClockQuality::synced);
    CHECK(clock.quality(25ULL * 3600 * 1000) == store::ClockQuality::hold_over);
    CHECK_FALSE(clock.set(utc_ms + 1000100, 1001000, net::Clock::Source::sntp));
    CHECK(clock.drift_ppm() == doctest::Approx(100.0));
    CHECK_FALSE(clock.has_jumped());
    clock.set(utc_ms + 86400000, 1002000, net::Clock::Source::sntp);
    CHECK(clock.has_jumped());
    CHECK_FALSE(clock.has_jumped());
}

TEST_SUITE_END();
