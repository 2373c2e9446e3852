#include "node_world.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("guard");

namespace {

// So many crashes, one right after the other.
void crash(NodeWorld& world, unsigned times) {
    for (unsigned time = 0; time < times; ++time) {
        REQUIRE(world.start(hal::ResetCause::panic));
        world.pass(2000);
    }
}

}  // namespace

TEST_CASE("after four crashes in a row nothing is measured, and the platform is told so") {
    NodeWorld world;
    crash(world, 3);
    CHECK_FALSE(world.node->is_safe_mode());
    crash(world, 1);
    REQUIRE(world.node->is_safe_mode());
    const auto before = world.node->ring().next_seq();
    world.pass(60000);
    CHECK(world.node->ring().next_seq() == before);
    const auto birth = world.mqtt.on("up/state").front().body;
    CHECK(birth.find(R"("mode":"safe","rst":"panic")") != std::string::npos);
    world.say("cmd", R"({"v":1,"id":"7c1e09aa","cmd":"ping"})");
    CHECK(world.newest("up/res").find("done") != std::string::npos);
}

TEST_CASE("ten minutes of work, or a start for another cause, and the count begins anew") {
    NodeWorld world;
    crash(world, 3);
    world.pass(600000, 1000);
    crash(world, 3);
    CHECK_FALSE(world.node->is_safe_mode());
    REQUIRE(world.start(hal::ResetCause::poweron));
    crash(world, 3);
    CHECK_FALSE(world.node->is_safe_mode());
    REQUIRE(world.start(hal::ResetCause::brownout));
    CHECK_FALSE(world.node->is_safe_mode());
    REQUIRE(world.start(hal::ResetCause::watchdog));
    CHECK_MESSAGE(world.node->is_safe_mode(), "the mains going down in between proves nothing");
}

TEST_CASE("safe mode lasts for an hour, over further crashes too, and then the node tries again") {
    NodeWorld world;
    crash(world, 4);
    world.pass(1200000, 1000);
    crash(world, 1);
    REQUIRE(world.node->is_safe_mode());
    world.pass(3590000, 1000);
    CHECK(world.machine.reboots == 0);
    world.pass(20000, 1000);
    CHECK(world.machine.reboots == 1);
    REQUIRE(world.start(hal::ResetCause::software));
    CHECK_FALSE(world.node->is_safe_mode());
    world.pass(6000);
    CHECK(world.newest("up/state").find(R"("mode":"run")") != std::string::npos);
}

TEST_CASE("a reboot command ends safe mode") {
    NodeWorld world;
    crash(world, 4);
    world.say("cmd", R"({"v":1,"id":"7c1e09aa","cmd":"reboot","args":{}})");
    world.pass(1000);
    CHECK(world.machine.reboots == 1);
    REQUIRE(world.start(hal::ResetCause::software));
    CHECK_FALSE(world.node->is_safe_mode());
}

TEST_CASE("a new configuration ends safe mode, after its answer has arrived") {
    NodeWorld world;
    crash(world, 4);
    world.say("config", R"({"v":1,"rev":18})");
    CHECK(world.newest("up/config") == R"({"v":1,"rev":18,"ok":true,"active":18})");
    world.pass(1000);
    CHECK(world.machine.reboots == 1);
    REQUIRE(world.start(hal::ResetCause::software));
    CHECK_FALSE(world.node->is_safe_mode());
    CHECK(world.node->cfg() == 18);
}

TEST_CASE("the same configuration once more, or a wrong one, does not end it") {
    NodeWorld world;
    REQUIRE(world.start());
    world.pass(500);
    world.say("config", R"({"v":1,"rev":18})");
    world.pass(6000);
    world.receipt();
    crash(world, 4);
    world.say("config", R"({"v":1,"rev":18})");
    world.say("config", R"({"v":1,"rev":19,"sample_s":0})");
    world.pass(10000);
    CHECK(world.machine.reboots == 0);
}

TEST_CASE("the power goes while crashes are counted: at worst one is not counted") {
    for (const bool is_done : {false, true}) {
        FakeValues values;
        values.cut_at = 1;
        values.is_done_at_cut = is_done;
        for (unsigned time = 0; time < 4; ++time) {
            app::Guard guard(values);
            guard.begin(hal::ResetCause::panic);
            if (values.is_off) {
                values.power_on();
            }
        }
        app::Guard guard(values);
        guard.begin(hal::ResetCause::panic);
        CHECK(guard.is_safe_mode());
    }
}

TEST_CASE("without values that survive the node works, and never gets into safe mode") {
    NodeWorld world;
    world.values.refuses = true;
    crash(world, 6);
    CHECK_FALSE(world.node->is_safe_mode());
    world.pass(10000);
    CHECK(world.records<store::Sample>().size() >= 2);
}

TEST_SUITE_END();
