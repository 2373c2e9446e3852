#include "node_world.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("config");

namespace {

// A value of a configuration by its path in the document: a number, a switch, or a name; NaN where it is not known.
double number_at(const wire::Config& config, const std::string& path) {
    const emission::Plan& plan = config.plan;
    if (path == "sample_s") return config.sample_s;
    if (path == "readings") return config.readings;
    if (path == "warm_up_s") return config.warm_up_s;
    if (path == "stuck_s") return config.stuck_s;
    if (path == "limits") return config.limit_count;
    if (path == "buzzer") return config.has_buzzer ? 1 : 0;
    if (path == "led") return config.has_led ? 1 : 0;
    if (path == "site.pressure_kpa") return static_cast<double>(config.pressure_kpa);
    if (path == "plan.diameter_m") return static_cast<double>(plan.diameter_m);
    if (path == "plan.width_m") return static_cast<double>(plan.width_m);
    if (path == "plan.length_m") return static_cast<double>(plan.length_m);
    if (path == "plan.is_dry") return plan.is_dry ? 1 : 0;
    if (path == "plan.is_circular") return plan.is_circular ? 1 : 0;
    if (path == "plan.profile_factor") return static_cast<double>(plan.profile_factor);
    const wire::Limit& limit = config.limits[static_cast<std::size_t>(path.at(7) - '0')];
    if (path.substr(9) == "limit") return static_cast<double>(limit.limit);
    if (path.substr(9) == "hysteresis") return static_cast<double>(limit.hysteresis);
    if (path.substr(9) == "for_s") return limit.for_s;
    FAIL("the test does not know the path " << path);
    return 0.0;
}

std::string_view name_at(const wire::Config& config, const std::string& path) {
    const wire::Limit& limit = config.limits[static_cast<std::size_t>(path.at(7) - '0')];
    return path.substr(9) == "code" ? wire::name_of(limit.code) : wire::name_of(limit.level);
}

void check_value(const wire::Config& config, const std::string& path, const json::Value& expected) {
    CAPTURE(path);
    switch (expected.kind()) {
        case json::Kind::text: CHECK(std::string(name_at(config, path)) == text(expected)); break;
        case json::Kind::boolean: CHECK((number_at(config, path) > 0.0) == *expected.boolean()); break;
        case json::Kind::null: CHECK(std::isnan(number_at(config, path))); break;
        default: CHECK(agrees(number_at(config, path), *expected.number()));
    }
}

std::string document(unsigned rev, const std::string& more = "") {
    return R"({"v":1,"rev":)" + std::to_string(rev) + more + "}";
}

app::ConfigStore::Room room;

}  // namespace

TEST_CASE("golden documents are taken whole, or refused with what is wrong where") {
    const Golden golden("config.json");
    for (json::Value::Walk walk(golden.root()); walk.next();) {
        const json::Value& vector = walk.value();
        CAPTURE(text(vector, "about"));
        const std::string body = text(vector, "body");
        wire::Config config;
        wire::Problems problems;
        const bool is_taken = wire::read_config(body, wire::Config{}, config, problems);
        REQUIRE(is_taken == *vector.member("ok")->boolean());
        CHECK(wire::rev_of(body) == vector.member("rev")->integer());
        std::size_t count = 0;
        for (json::Value::Walk error(*vector.member("errors")); error.next(); ++count) {
            REQUIRE(problems.count() > count);
            CHECK(std::string(problems.path(count)) == text(error.value(), "path"));
            CHECK(std::string(problems.code(count)) == text(error.value(), "code"));
        }
        CHECK(problems.count() == count);
        if (const auto expected = vector.member("expected")) {
            for (json::Value::Walk value(*expected); value.next();) {
                check_value(config, std::string(value.name()), value.value());
            }
        }
    }
}

TEST_CASE("a document that is too large is not looked at") {
    wire::Config config;
    wire::Problems problems;
    CHECK_FALSE(wire::read_config(document(1, std::string(4096, ' ')), {}, config, problems));
    CHECK(problems.code(0) == "size");
    wire::Problems none;
    CHECK(wire::read_config(document(1, std::string(4096 - 15, ' ')), {}, config, none));
}

TEST_CASE("a configuration is stored, answered, taken at the next window, and stamped on what is measured with it") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(7000);
    CHECK(world.mqtt.on("up/state").front().number("cfg") == 0);
    world.say("config", document(18, R"(,"sample_s":2,"readings":2,"warm_up_s":0,"plan":{"diameter_m":1.0},"site":{"pressure_kpa":79.5})"));
    CHECK(world.newest("up/config") == R"({"v":1,"rev":18,"ok":true,"active":18})");
    CHECK_MESSAGE(world.node->cfg() == 0, "the window is not over");
    const auto before = world.node->rate().co2_kg_per_s;
    world.pass(10000);
    CHECK(world.node->cfg() == 18);
    CHECK(static_cast<double>(world.node->rate().co2_kg_per_s / before) == doctest::Approx(1.5625).epsilon(0.001));
    const auto cfgs = world.cfgs();
    CHECK(cfgs.front() == 0);
    CHECK(cfgs.back() == 18);
    CHECK(cfgs.size() >= 4);
    CHECK(std::is_sorted(cfgs.begin(), cfgs.end()));
    REQUIRE(world.start());
    CHECK_MESSAGE(world.node->cfg() == 18, "a power cut is no crash");
    world.pass(500);
    CHECK(world.mqtt.on("up/state").front().number("cfg") == 18);
}

TEST_CASE("a window that would last an hour does not keep new settings waiting") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", document(1, R"(,"sample_s":3600)"));
    world.pass(10000);
    REQUIRE(world.node->cfg() == 1);
    world.say("config", document(2));
    world.pass(300);
    CHECK(world.node->cfg() == 2);
}

TEST_CASE("what is refused changes nothing, and says which revision counts") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", document(17));
    world.say("config", document(18, R"(,"plan":{"diameter_m":-1})"));
    CHECK(world.newest("up/config") ==
          R"({"v":1,"rev":18,"ok":false,"active":17,"errors":[{"path":"plan.diameter_m","code":"range"}]})");
    world.say("config", document(16));
    CHECK(world.newest("up/config") == R"({"v":1,"rev":16,"ok":false,"active":17,"errors":[{"path":"rev","code":"older"}]})");
    const auto writes = world.values.writes;
    world.say("config", document(17, R"(,"sample_s":5.0)"));
    CHECK(world.newest("up/config") == R"({"v":1,"rev":17,"ok":true,"active":17})");
    CHECK_MESSAGE(world.values.writes == writes, "it is there already");
    world.say("config", document(17, R"(,"sample_s":6)"));
    CHECK(world.newest("up/config") == R"({"v":1,"rev":17,"ok":false,"active":17,"errors":[{"path":"rev","code":"value"}]})");
    world.say("config", "rubbish");
    CHECK(world.newest("up/config") == R"({"v":1,"rev":0,"ok":false,"active":17,"errors":[{"path":"","code":"syntax"}]})");
    world.values.refuses = true;
    world.say("config", document(19));
    CHECK(world.newest("up/config") == R"({"v":1,"rev":19,"ok":false,"active":17,"errors":[{"path":"","code":"storage"}]})");
    world.pass(6000);
    CHECK(world.node->cfg() == 17);
}

TEST_CASE("a retained configuration is not taken") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.mqtt.say("ct/v1/dev-001/dn/config", document(18), true);
    world.pass(10000);
    CHECK(world.node->cfg() == 0);
    CHECK(world.newest("up/config").empty());
}

TEST_CASE("on trial, a crash takes it back; the node says so until it is heard") {
    for (const auto cause : {hal::ResetCause::panic, hal::ResetCause::watchdog}) {
        NodeWorld world;
        REQUIRE(world.start());
        world.pass(500);
        world.say("config", document(17, R"(,"sample_s":7)"));
        world.pass(10000);
        world.receipt();
        world.say("config", document(18, R"(,"sample_s":9)"));
        world.pass(10000);
        REQUIRE(world.node->cfg() == 18);
        REQUIRE(world.start(cause));
        CHECK(world.node->cfg() == 17);
        CHECK(world.node->config().sample_s == 7);
        world.mqtt.acknowledges = false;
        world.pass(500);
        REQUIRE(world.start());
        world.pass(500);
        CHECK(world.newest("up/config") ==
              R"({"v":1,"rev":18,"ok":false,"active":17,"errors":[{"path":"","code":"reverted"}]})");
        REQUIRE(world.start());
        world.pass(500);
        CHECK_MESSAGE(world.newest("up/config").empty(), "it was heard");
        world.say("config", document(18, R"(,"sample_s":9)"));
        CHECK_MESSAGE(world.newest("up/config") == R"({"v":1,"rev":18,"ok":true,"active":18})", "somebody wants it again");
    }
}

TEST_CASE("after the first receipt it is on trial no more, and a crash has another cause") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", document(18));
    world.pass(10000);
    world.receipt();
    REQUIRE(world.start(hal::ResetCause::panic));
    CHECK(world.node->cfg() == 18);
}

TEST_CASE("connected for ten minutes without a receipt, it goes back to the one before; away, it waits") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", document(17, R"(,"sample_s":7)"));
    world.pass(10000);
    world.receipt();
    world.say("config", document(18));
    world.pass(300000);
    world.mqtt.accepts = false;
    world.mqtt.cut();
    world.pass(1200000, 1000);
    CHECK(world.node->cfg() == 18);
    world.mqtt.accepts = true;
    while (!world.node->session().is_running()) {
        world.pass(1000);
    }
    world.pass(590000, 500);
    CHECK(world.node->cfg() == 18);
    world.pass(30000, 500);
    CHECK(world.node->cfg() == 17);
    CHECK(world.newest("up/config").find("reverted") != std::string::npos);
}

TEST_CASE("a third revision on top of one on trial: what was proved stays to go back to") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", document(17));
    world.pass(6000);
    world.receipt();
    world.say("config", document(18));
    world.pass(6000);
    world.say("config", document(19));
    world.pass(6000);
    CHECK(world.node->cfg() == 19);
    REQUIRE(world.start(hal::ResetCause::panic));
    CHECK(world.node->cfg() == 17);
}

TEST_CASE("the power goes at every write: what counts afterwards is one of the two, whole, and never an unproved one after a crash") {
    for (unsigned cut = 0; cut < 40; ++cut) {
        for (const bool is_done : {false, true}) {
            CAPTURE(cut);
            CAPTURE(is_done);
            FakeValues values;
            values.cut_at = cut;
            values.is_done_at_cut = is_done;
            std::uint16_t proved = 0, offered = 0;
            app::ConfigStore store(values, {});
            store.open(hal::ResetCause::poweron, room);
            for (std::uint16_t rev = 1; rev < 8 && !values.is_off; ++rev) {
                offered = rev;
                const bool is_taken = store.take(document(rev, R"(,"sample_s":)" + std::to_string(rev)), room);
                store.take_into_force(0);
                if (rev % 2 == 0 && is_taken) {
                    store.was_receipted();
                    proved = values.is_off ? proved : rev;
                }
            }
            values.power_on();
            app::ConfigStore after(values, {});
            after.open(hal::ResetCause::poweron, room);
            const std::uint16_t found = after.in_force().rev;
            CHECK(found <= offered);
            CHECK(found >= proved);
            CHECK(after.in_force().sample_s == (found == 0 ? 5U : found));
            app::ConfigStore crashed(values, {});
            crashed.open(hal::ResetCause::panic, room);
            CHECK(crashed.in_force().rev >= proved);
            CHECK(crashed.in_force().rev <= found);
        }
    }
}

TEST_CASE("flash that has changed by itself is not believed") {
    FakeValues values;
    {
        app::ConfigStore store(values, {});
        store.open(hal::ResetCause::poweron, room);
        REQUIRE(store.take(document(17), room));
        store.take_into_force(0);
        store.was_receipted();
        REQUIRE(store.take(document(18), room));
        store.take_into_force(0);
        store.was_receipted();
    }
    const auto whole = values.kept;
    for (auto& [name, bytes] : values.kept) {
        for (std::size_t at = 0; at < bytes.size(); ++at) {
            bytes[at] ^= 0x20;
            app::ConfigStore store(values, {});
            store.open(hal::ResetCause::poweron, room);
            CHECK((store.in_force().rev == 0 || store.in_force().rev == 17 || store.in_force().rev == 18));
            bytes[at] ^= 0x20;
        }
    }
    values.kept["cfg_2"].clear();
    app::ConfigStore store(values, {});
    store.open(hal::ResetCause::poweron, room);
    CHECK_MESSAGE(store.in_force().rev == 17, "the one before is better than none");
}

TEST_SUITE_END();
