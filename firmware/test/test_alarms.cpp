#include "node_world.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("alarms");

namespace {

using store::EventCode;
using store::Severity;

class Notes final : public app::Alarms::Sink {
public:
    std::vector<store::Event> events;
    void note(const store::Event& event, std::uint64_t) override { events.push_back(event); }
};

wire::Config with(std::initializer_list<wire::Limit> limits) {
    wire::Config config;
    for (const wire::Limit& limit : limits) {
        config.limits[config.limit_count++] = limit;
    }
    return config;
}

// One limit, and what is seen of it.
struct Watched {
    Notes notes;
    app::Alarms alarms{notes};
    app::Observation found;
    std::uint64_t now_ms = 0;

    explicit Watched(const wire::Limit& limit) {
        alarms.set_limits(with({limit}), 0);
        found.boiler = emission::Boiler::runs;
    }
    bool is_on() const { return alarms.loudest().has_value(); }
    bool sees_rate(float rate) {
        found.co2_kg_per_s = rate;
        return look();
    }
    bool sees_temperature(float temperature_c) {
        found.temperature_c = temperature_c;
        return look();
    }
    bool look() {
        now_ms += 5000;
        alarms.look(found, now_ms);
        return is_on();
    }
};

constexpr const char* rate_limit =
    R"({"v":1,"rev":1,"warm_up_s":0,"limits":[{"code":"rate_high","limit":0.1,"for_s":20,"level":"critical"}]})";

// What lamp or buzzer did in some seconds, looked at every tenth of one.
std::string seen(NodeWorld& world, unsigned tenths, bool is_buzzer = false) {
    std::string shape;
    for (unsigned tenth = 0; tenth < tenths; ++tenth) {
        world.pass(100);
        shape += (is_buzzer ? world.signals.is_loud : world.signals.is_lit) ? '#' : '.';
    }
    return shape;
}

std::size_t count(const std::string& in, const std::string& of) {
    std::size_t found = 0;
    for (std::size_t at = in.find(of); at != std::string::npos; at = in.find(of, at + 1)) {
        ++found;
    }
    return found;
}

}  // namespace

TEST_CASE("a high limit is on after its time, and off when the value is back by the hysteresis") {
    Watched watched({EventCode::rate_high, Severity::warning, 0.35F, 0.02F, 10});
    CHECK_FALSE(watched.sees_rate(0.36F));
    CHECK_FALSE(watched.sees_rate(0.36F));
    CHECK(watched.sees_rate(0.36F));
    REQUIRE(watched.notes.events.size() == 1);
    CHECK(watched.notes.events[0].is_on);
    CHECK(watched.notes.events[0].value == doctest::Approx(0.36));
    CHECK(watched.notes.events[0].limit == 0.35F);
    CHECK(watched.sees_rate(0.34F));
    CHECK(watched.sees_rate(missing));
    CHECK_FALSE(watched.sees_rate(0.32F));
    REQUIRE(watched.notes.events.size() == 2);
    CHECK_FALSE(watched.notes.events[1].is_on);
}

TEST_CASE("a value that goes back in between begins its time anew") {
    Watched watched({EventCode::rate_high, Severity::warning, 0.35F, 0.0F, 10});
    watched.sees_rate(0.36F);
    watched.sees_rate(0.36F);
    watched.sees_rate(0.35F);
    CHECK_FALSE(watched.sees_rate(0.36F));
    CHECK_FALSE(watched.sees_rate(0.36F));
    CHECK(watched.sees_rate(0.36F));
    CHECK_FALSE(watched.sees_rate(0.35F));
}

TEST_CASE("a low limit counts while the boiler runs, and is over when it is off") {
    Watched watched({EventCode::temperature_low, Severity::info, 120.0F, 5.0F, 0});
    CHECK(watched.sees_temperature(100.0F));
    watched.found.boiler = emission::Boiler::unknown;
    CHECK(watched.look());
    watched.found.boiler = emission::Boiler::off;
    CHECK_FALSE(watched.sees_temperature(30.0F));
    CHECK_FALSE(watched.look());
    watched.found.boiler = emission::Boiler::runs;
    CHECK(watched.sees_temperature(119.0F));
    CHECK(watched.sees_temperature(124.0F));
    CHECK_FALSE(watched.sees_temperature(126.0F));
    CHECK(watched.notes.events.size() == 4);
}

TEST_CASE("the other kinds: temperature and velocity too high, velocity too low, a faulty sensor") {
    Notes notes;
    app::Alarms alarms(notes);
    alarms.set_limits(with({{EventCode::temperature_high, Severity::warning, 300.0F, 0.0F, 0},
                            {EventCode::velocity_high, Severity::warning, 10.0F, 0.0F, 0},
                            {EventCode::velocity_low, Severity::warning, 2.0F, 0.0F, 0},
                            {EventCode::sensor_fault, Severity::critical, missing, 0.0F, 0}}),
                      0);
    app::Observation found;
    found.boiler = emission::Boiler::runs;
    found.temperature_c = 301.0F;
    found.velocity_ms = 11.0F;
    alarms.look(found, 5000);
    CHECK(alarms.loudest() == Severity::warning);
    found.velocity_ms = 1.0F;
    found.faults = flag::temperature_open;
    alarms.look(found, 10000);
    CHECK(alarms.loudest() == Severity::critical);
    REQUIRE(notes.events.size() == 5);
    CHECK(notes.events[2].code == EventCode::velocity_high);
    CHECK_FALSE(notes.events[2].is_on);
    CHECK(notes.events[4].code == EventCode::sensor_fault);
    CHECK(notes.events[4].value == 16.0);
    CHECK_FALSE(is_known(notes.events[4].limit));
}

TEST_CASE("while somebody works at it nothing begins and nothing ends") {
    Watched watched({EventCode::sensor_fault, Severity::warning, missing, 0.0F, 0});
    watched.found.faults = flag::co2_fault;
    watched.found.is_watched = false;
    CHECK_FALSE(watched.look());
    watched.found.is_watched = true;
    CHECK(watched.look());
    watched.found.is_watched = false;
    watched.found.faults = 0;
    CHECK(watched.look());
}

TEST_CASE("new limits: what is on stays on where the same limit is there again, otherwise it is over") {
    Watched watched({EventCode::rate_high, Severity::warning, 0.35F, 0.0F, 0});
    REQUIRE(watched.sees_rate(0.5F));
    watched.alarms.set_limits(with({{EventCode::temperature_high, Severity::warning, 300.0F, 0.0F, 0},
                                    {EventCode::rate_high, Severity::warning, 0.4F, 0.0F, 0}}),
                              6000);
    CHECK(watched.is_on());
    CHECK(watched.notes.events.size() == 1);
    watched.alarms.set_limits(with({}), 7000);
    CHECK_FALSE(watched.is_on());
    REQUIRE(watched.notes.events.size() == 2);
    CHECK_FALSE(watched.notes.events[1].is_on);
}

TEST_CASE("alarms of the platform go by their numbers, eight of them, and the most urgent one counts") {
    Notes notes;
    app::Alarms alarms(notes);
    for (std::uint64_t id = 1; id <= 9; ++id) {
        alarms.set_remote(id, true, id == 9 ? Severity::critical : Severity::info);
    }
    CHECK_MESSAGE(alarms.loudest() == Severity::info, "a ninth is not remembered");
    alarms.set_remote(3, true, Severity::critical);
    CHECK(alarms.loudest() == Severity::critical);
    alarms.set_remote(99, false, Severity::info);
    for (std::uint64_t id = 1; id <= 8; ++id) {
        alarms.set_remote(id, false, Severity::info);
    }
    CHECK_FALSE(alarms.loudest());
    CHECK_MESSAGE(notes.events.empty(), "the platform knows of its own alarms");
}

TEST_CASE("a node without a connection raises its alarms, and keeps a record of when they began and ended") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", rate_limit);
    world.pass(6000);
    world.mqtt.accepts = false;
    world.mqtt.cut();
    world.pass(60000);
    world.see({600.0, 26.0, 0.1});
    world.pass(20000);
    const auto events = world.records<store::Event>();
    REQUIRE(events.size() == 2);
    CHECK(events[0].code == EventCode::rate_high);
    CHECK(events[0].severity == Severity::critical);
    CHECK(events[0].is_on);
    CHECK(events[0].value == doctest::Approx(0.148).epsilon(0.01));
    CHECK_FALSE(events[1].is_on);
    world.mqtt.accepts = true;
    world.pass(180000, 1000);
    bool is_sent = false;
    for (const Sent& sent : world.mqtt.on("up/backlog")) {
        is_sent = is_sent || sent.body.find(R"("rate_high","critical",1,0.148,0.1])") != std::string::npos;
    }
    CHECK(is_sent);
}

TEST_CASE("an event keeps its severity in flash") {
    for (const Severity severity : {Severity::info, Severity::warning, Severity::critical}) {
        store::Record record;
        store::Event event;
        event.code = EventCode::velocity_low;
        event.severity = severity;
        event.is_on = false;
        record.content = event;
        store::Record read;
        REQUIRE(store::unpack(store::pack(record), read));
        CHECK(std::get<store::Event>(read.content).severity == severity);
        CHECK_FALSE(std::get<store::Event>(read.content).is_on);
    }
}

TEST_CASE("the lamp: slow without a connection, steady with one, fast with a faulty sensor") {
    NodeWorld world;
    world.mqtt.accepts = false;
    REQUIRE(world.start());
    world.mqtt.accepts = false;
    world.mqtt.cut();
    world.pass(4000);
    CHECK(count(seen(world, 40), "##########..........") >= 1);
    world.mqtt.accepts = true;
    while (!world.node->session().is_running()) {
        world.pass(100);
    }
    world.pass(2000);
    CHECK(seen(world, 40) == std::string(40, '#'));
    world.sources[1].frame.clear();
    world.pass(10000);
    CHECK(count(seen(world, 40), "##..##..##..##") >= 1);
}

TEST_CASE("the buzzer: each level has its own sound, until it is silenced or over") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(1000);
    const auto alarm = [&](bool is_on, const std::string& level) {
        world.say("cmd", R"({"v":1,"id":7,"cmd":"alarm","on":)" + std::string(is_on ? "true" : "false") +
                             R"(,"level":")" + level + "\"}");
    };
    CHECK(count(seen(world, 100, true), "#") == 0);
    alarm(true, "info");
    CHECK(count(seen(world, 600, true), "##") == 2);
    alarm(true, "warning");
    CHECK(count(seen(world, 300, true), "##..##") == 3);
    CHECK(count(seen(world, 40), "##..##..##") == 2);
    alarm(true, "critical");
    CHECK(count(seen(world, 100, true), "#####.....") >= 9);
    world.say("cmd", R"({"v":1,"id":"7c1e09aa","cmd":"silence","args":{"minutes":1}})");
    CHECK(count(seen(world, 550, true), "#") == 0);
    CHECK(count(seen(world, 100, true), "#") > 20);
    alarm(false, "critical");
    CHECK(count(seen(world, 100, true), "#") <= 1);
}

TEST_CASE("a new connection begins without the platform's alarms") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(1000);
    world.say("cmd", R"({"v":1,"id":7,"cmd":"alarm","on":true,"level":"critical"})");
    CHECK(count(seen(world, 100, true), "#") > 20);
    world.mqtt.accepts = false;
    world.mqtt.cut();
    CHECK_MESSAGE(count(seen(world, 100, true), "#") > 20, "it is on as long as nobody says otherwise");
    world.mqtt.accepts = true;
    world.pass(60000);
    REQUIRE(world.node->session().is_running());
    CHECK(count(seen(world, 100, true), "#") == 0);
}

TEST_CASE("lamp and buzzer that are not wanted stay dark and quiet, except to show which box it is") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", R"({"v":1,"rev":1,"led":false,"buzzer":false})");
    world.pass(6000);
    world.say("cmd", R"({"v":1,"id":7,"cmd":"alarm","on":true,"level":"critical"})");
    world.pass(100);
    CHECK(count(seen(world, 100, true), "#") == 0);
    CHECK(count(seen(world, 100), "#") == 0);
    world.say("cmd", R"({"v":1,"id":"7c1e09aa","cmd":"identify","args":{"seconds":10}})");
    CHECK(count(seen(world, 40), "#.#.") >= 18);
    CHECK(count(seen(world, 40, true), "#") == 4);
    world.pass(5000);
    CHECK(count(seen(world, 100), "#") == 0);
}

TEST_CASE("safe mode shows two flashes") {
    NodeWorld world;
    for (unsigned time = 0; time < 4; ++time) {
        REQUIRE(world.start(hal::ResetCause::panic));
    }
    world.pass(2000);
    CHECK(count(seen(world, 60), "##..##..............") >= 2);
}

TEST_SUITE_END();
