#include "node_world.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("commands");

namespace {

std::string name_of(wire::Command::Kind kind) {
    using Kind = wire::Command::Kind;
    switch (kind) {
        case Kind::alarm: return "alarm";
        case Kind::ping: return "ping";
        case Kind::identify: return "identify";
        case Kind::reboot: return "reboot";
        case Kind::silence: return "silence";
        case Kind::maintenance: return "maintenance";
        case Kind::zero_cal: return "zero_cal";
        case Kind::span_cal: return "span_cal";
        case Kind::diag: return "diag";
        case Kind::unknown: return "unknown";
    }
    return "";
}

std::string command(const std::string& id, const std::string& name, const std::string& args = "{}",
                    const std::string& more = "") {
    return R"({"v":1,"id":")" + id + R"(","cmd":")" + name + R"(","args":)" + args + more + "}";
}

std::string answer(const std::string& id, const std::string& name, const std::string& state, const std::string& error = "") {
    return R"({"v":1,"id":")" + id + R"(","cmd":")" + name + R"(","st":")" + state + R"(","res":{},"err":")" + error +
           R"("})";
}

struct Ready : NodeWorld {
    explicit Ready(bool with_head = false) {
        has_head = with_head;
        REQUIRE(start());
        pass(500);
    }
};

}  // namespace

TEST_CASE("golden commands are read, or passed over where nobody could be answered") {
    const Golden golden("commands.json");
    for (json::Value::Walk walk(golden.root()); walk.next();) {
        const json::Value& vector = walk.value();
        CAPTURE(text(vector, "about"));
        const auto found = wire::read_command(text(vector, "body"));
        const json::Value expected = vector.member("expected").value();
        REQUIRE(found.has_value() == (expected.kind() == json::Kind::object));
        if (!found) {
            continue;
        }
        for (json::Value::Walk key(expected); key.next();) {
            const std::string name(key.name());
            CAPTURE(name);
            const json::Value value = key.value();
            if (name == "kind") CHECK(name_of(found->kind) == text(value));
            if (name == "id") CHECK(std::string(found->id.data()) == text(value));
            if (name == "name") CHECK(std::string(found->name.data()) == text(value));
            if (name == "args") CHECK(found->are_args_right == *value.boolean());
            if (name == "amount") CHECK(found->amount == *value.integer());
            if (name == "ppm") CHECK(agrees(static_cast<double>(found->ppm), *value.number()));
            if (name == "expires_ms") CHECK(static_cast<std::int64_t>(found->expires_ms) == *value.integer());
            if (name == "alarm") CHECK(static_cast<std::int64_t>(found->alarm) == *value.integer());
            if (name == "on") CHECK(found->is_on == *value.boolean());
            if (name == "level") CHECK(std::string(wire::name_of(found->level)) == text(value));
        }
    }
}

TEST_CASE("a command is done and answered; the same id again is answered again and not done") {
    Ready world(true);
    world.say("cmd", command("7c1e09aa", "zero_cal"));
    CHECK(world.newest("up/res") == answer("7c1e09aa", "zero_cal", "done"));
    world.say("cmd", command("7c1e09aa", "zero_cal"));
    CHECK(world.mqtt.on("up/res").size() == 2);
    CHECK(world.newest("up/res") == answer("7c1e09aa", "zero_cal", "done"));
    CHECK(world.head.told.size() == 1);
    world.say("cmd", command("0000000a", "span_cal", R"({"ppm":50000})"));
    CHECK(world.head.told.back() == 50000.0F);
    for (unsigned number = 0; number < 15; ++number) {
        world.say("cmd", command("1000000" + std::string(1, "0123456789abcde"[number]), "ping"));
    }
    world.say("cmd", command("0000000a", "span_cal", R"({"ppm":50000})"));
    CHECK_MESSAGE(world.head.told.size() == 2, "the last sixteen are remembered");
    world.say("cmd", command("7c1e09aa", "zero_cal"));
    CHECK_MESSAGE(world.head.told.size() == 3, "and no more than that");
}

TEST_CASE("after a calibration the readings say so for two minutes, and there is no rate") {
    Ready world(true);
    world.say("cmd", command("7c1e09aa", "zero_cal"));
    world.pass(10000);
    CHECK((world.records<store::Sample>().back().status & flag::calibration) != 0);
    CHECK_FALSE(is_known(world.node->rate().co2_kg_per_s));
    world.pass(120000);
    CHECK((world.records<store::Sample>().back().status & flag::calibration) == 0);
    world.head.takes = false;
    world.say("cmd", command("7c1e09ab", "zero_cal"));
    CHECK(world.newest("up/res") == answer("7c1e09ab", "zero_cal", "failed", "refused"));
    world.pass(10000);
    CHECK((world.records<store::Sample>().back().status & flag::calibration) == 0);
}

TEST_CASE("a head that cannot be calibrated, wrong arguments, what is over and what nobody knows: each has its answer") {
    Ready world;
    world.say("cmd", command("7c1e09aa", "zero_cal"));
    CHECK(world.newest("up/res") == answer("7c1e09aa", "zero_cal", "failed", "unsupported"));
    world.say("cmd", command("7c1e09ab", "identify", R"({"seconds":0})"));
    CHECK(world.newest("up/res") == answer("7c1e09ab", "identify", "failed", "bad_args"));
    world.say("cmd", command("7c1e09ac", "make_tea"));
    CHECK(world.newest("up/res") == answer("7c1e09ac", "make_tea", "unknown"));
    world.say("cmd", command("7c1e09ad", "reboot", "{}", R"(,"exp":1795433000000)"));
    CHECK(world.newest("up/res") == answer("7c1e09ad", "reboot", "expired"));
    world.pass(10000);
    CHECK(world.machine.reboots == 0);
    world.say("cmd", command("7c1e09ae", "ping", "{}", R"(,"exp":1795439000000)"));
    CHECK(world.newest("up/res") == answer("7c1e09ae", "ping", "done"));
}

TEST_CASE("a node that does not know the time does what it is told, however old that is") {
    NodeWorld world;
    world.wall.now_ms = 0;
    REQUIRE(world.start());
    for (unsigned step = 0; step < 20; ++step) {
        world.now_ms += 100;
        world.node->step(world.now_ms);
    }
    world.mqtt.say("ct/v1/dev-001/dn/cmd", command("7c1e09aa", "ping", "{}", R"(,"exp":1)"));
    world.node->step(world.now_ms);
    CHECK(world.newest("up/res") == answer("7c1e09aa", "ping", "done"));
}

TEST_CASE("maintenance marks the readings until it is over or ended") {
    Ready world;
    world.say("cmd", command("7c1e09aa", "maintenance", R"({"minutes":10})"));
    world.pass(300000);
    CHECK((world.records<store::Sample>().back().status & flag::maintenance) != 0);
    world.say("cmd", command("7c1e09ab", "maintenance", R"({"minutes":0})"));
    world.pass(10000);
    CHECK((world.records<store::Sample>().back().status & flag::maintenance) == 0);
    world.say("cmd", command("7c1e09ac", "maintenance", R"({"minutes":1})"));
    world.pass(70000);
    CHECK((world.records<store::Sample>().back().status & flag::maintenance) == 0);
}

TEST_CASE("diag tells how the node is doing") {
    Ready world;
    world.pass(60000);
    world.say("cmd", command("7c1e09aa", "diag"));
    const std::string said = world.newest("up/res");
    const auto body = json::parse(said).value();
    CHECK(text(body, "st") == "done");
    const auto found = body.member("res").value();
    CHECK(number(found, "uptime_s") == 60);
    CHECK(number(found, "boot") == 1);
    CHECK(number(found, "heap_free_kib") == 120);
    CHECK(number(found, "ring_capacity") == 39 * 127);
    CHECK(number(found, "ring_used") > 10);
    CHECK(number(found, "reconnects") == 1);
    CHECK(text(found, "firmware") == "0.1.0");
    CHECK(text(found, "mode") == "run");
    CHECK(text(found, "reset_cause") == "poweron");
    for (const char* name : {"erasures", "frame_errors", "drift_ppm"}) {
        CHECK(found.member(name).has_value());
    }
}

TEST_CASE("a reboot is accepted, waits until that is heard, says goodbye and happens; then it is done, once") {
    Ready world;
    world.mqtt.acknowledges = false;
    world.say("cmd", command("7c1e09aa", "reboot"));
    const auto accepted = world.mqtt.on("up/res").back();
    CHECK(accepted.body == answer("7c1e09aa", "reboot", "accepted"));
    world.pass(2000);
    CHECK(world.machine.reboots == 0);
    world.mqtt.acknowledges = true;
    world.mqtt.acknowledge(accepted.id);
    world.pass(500);
    CHECK(world.machine.reboots == 1);
    CHECK(world.newest("up/state").find(R"("why":"reboot")") != std::string::npos);
    world.pass(10000);
    CHECK(world.machine.reboots == 1);

    REQUIRE(world.start(hal::ResetCause::software));
    world.pass(500);
    CHECK(world.newest("up/res") == answer("7c1e09aa", "reboot", "done"));
    world.say("cmd", command("7c1e09aa", "reboot"));
    CHECK(world.newest("up/res") == answer("7c1e09aa", "reboot", "done"));
    world.pass(10000);
    CHECK_MESSAGE(world.machine.reboots == 0, "the platform did not know yet, and it is not done again");
    REQUIRE(world.start());
    world.pass(500);
    CHECK_MESSAGE(world.newest("up/res").empty(), "it is known by now");
    world.say("cmd", command("7c1e09aa", "reboot"));
    CHECK(world.newest("up/res") == answer("7c1e09aa", "reboot", "done"));
}

TEST_CASE("a reboot that nobody acknowledges waits for five seconds; one at a time; one that cannot be remembered is refused") {
    Ready world;
    world.values.refuses = true;
    world.say("cmd", command("7c1e09aa", "reboot"));
    CHECK(world.newest("up/res") == answer("7c1e09aa", "reboot", "failed", "storage"));
    world.values.refuses = false;
    world.mqtt.acknowledges = false;
    world.say("cmd", command("7c1e09ab", "reboot"));
    world.say("cmd", command("7c1e09ac", "reboot"));
    CHECK(world.newest("up/res") == answer("7c1e09ac", "reboot", "failed", "busy"));
    world.pass(4000);
    CHECK(world.machine.reboots == 0);
    world.pass(5000);
    CHECK(world.machine.reboots == 1);
}

TEST_CASE("the power goes around a reboot: it is done once, whatever the write has left") {
    for (const bool is_done : {false, true}) {
        Ready world;
        world.values.cut_at = world.values.writes;
        world.values.is_done_at_cut = is_done;
        world.say("cmd", command("7c1e09aa", "reboot"));
        world.values.power_on();
        REQUIRE(world.start());
        world.pass(500);
        world.say("cmd", command("7c1e09aa", "reboot"));
        world.pass(6000);
        CHECK(world.machine.reboots == (is_done ? 0 : 1));
    }
}

TEST_CASE("answers that were on their way when the connection broke are said again") {
    Ready world;
    world.mqtt.acknowledges = false;
    world.say("cmd", command("7c1e09aa", "ping"));
    REQUIRE(world.mqtt.on("up/res").size() == 1);
    world.mqtt.cut();
    world.mqtt.acknowledges = true;
    world.pass(10000);
    CHECK(world.mqtt.on("up/res").size() == 2);
    world.pass(60000);
    CHECK(world.mqtt.on("up/res").size() == 2);
}

TEST_CASE("more answers than may be on their way wait for each other, and none is lost") {
    Ready world;
    world.mqtt.acknowledges = false;
    for (unsigned number = 0; number < 10; ++number) {
        world.mqtt.say("ct/v1/dev-001/dn/cmd", command("1000000" + std::to_string(number), "ping"));
    }
    world.pass(1000);
    CHECK(world.mqtt.on("up/res").size() == 4);
    world.mqtt.acknowledges = true;
    for (const Sent& sent : world.mqtt.on("up/res")) {
        world.mqtt.acknowledge(sent.id);
    }
    world.pass(1000);
    CHECK(world.mqtt.on("up/res").size() == 10);
}

TEST_SUITE_END();
