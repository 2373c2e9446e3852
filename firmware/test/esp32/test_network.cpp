// What goes to the network and comes from it: esp-mqtt behind two buffers, Wi-Fi with its own attempts, the time, and
// the page for setting up.
#include <doctest/doctest.h>

#include "fake_sdk.h"
#include "../fakes.h"
#include "machine.h"
#include "mqtt.h"
#include "setup_page.h"
#include "wifi.h"

using namespace ct;

TEST_SUITE_BEGIN("esp32_network");

namespace {

esp32::BrokerAccess access() {
    esp32::BrokerAccess access;
    access.host = "mqtt.example.org";
    access.ca = "the CA";
    access.device_id = "dev-001";
    access.password = "secret";
    return access;
}

struct Connected {
    esp32::EspMqtt mqtt = esp32::EspMqtt(access());
    hal::MqttEvent event;
    fake::Mqtt& broker = fake::sdk().mqtt;

    Connected() {
        mqtt.connect("ct/v1/dev-001/up/state", R"({"online":false})");
        mqtt.work(true);
        REQUIRE(broker.is_started);
        broker.say(MQTT_EVENT_CONNECTED);
        REQUIRE(mqtt.next_event(event));
        REQUIRE(event.kind == hal::MqttEvent::Kind::connected);
    }
};

class TestRadio final : public esp32::Radio {
public:
    bool is_near = false;  // an access point
    unsigned joins = 0, restarts = 0;
    void start(const char*) override {}
    void join(const char*, const char*) override {
        ++joins;
        is_up_ = is_near;
    }
    void leave() override { is_up_ = false; }
    bool is_joined() override { return is_up_ && is_near; }
    void restart() override { ++restarts; }

private:
    bool is_up_ = false;
};

class TestForm final : public esp32::SetupPage::Form {
public:
    std::map<std::string, std::string> fields;
    std::optional<std::string_view> field(const char* name) override {
        const auto found = fields.find(name);
        return found == fields.end() ? std::nullopt : std::optional<std::string_view>(found->second);
    }
};

}  // namespace

TEST_CASE("a connection is made with the pinned CA, a will, and without the client's own reconnects") {
    fake::power_on();
    Connected world;
    CHECK(world.broker.host == "mqtt.example.org");
    CHECK(world.broker.port == 8883);
    CHECK(world.broker.ca == "the CA");
    CHECK(world.broker.user + ":" + world.broker.password == "dev-001:secret");
    CHECK(world.broker.will_topic == "ct/v1/dev-001/up/state");
    CHECK(world.broker.will == R"({"online":false})");
    CHECK(world.broker.will_qos == 1);
    CHECK(world.broker.keepalive == 30);
    CHECK_FALSE(world.broker.reconnects_itself);
}

TEST_CASE("without a CA nothing is connected to") {
    fake::power_on();
    esp32::BrokerAccess open = access();
    open.ca = nullptr;
    esp32::EspMqtt mqtt(open);
    mqtt.connect("t", "w");
    mqtt.work(true);
    CHECK(fake::sdk().mqtt.clients == 0);
    hal::MqttEvent event;
    REQUIRE(mqtt.next_event(event));
    CHECK(event.kind == hal::MqttEvent::Kind::disconnected);
}

TEST_CASE("what is published goes out when the network's task comes round, and is acknowledged by the node's number") {
    fake::power_on();
    Connected world;
    const int subscribed = world.mqtt.subscribe("ct/v1/dev-001/dn/#");
    const int first = world.mqtt.publish("ct/v1/dev-001/up/data", "one", false);
    const int second = world.mqtt.publish("ct/v1/dev-001/up/state", "two", true);
    CHECK(world.broker.published.empty());
    world.mqtt.work(true);
    REQUIRE(world.broker.published.size() == 2);
    CHECK(world.broker.subscribed == std::vector<std::string>{"ct/v1/dev-001/dn/#"});
    CHECK(world.broker.published[0].topic == "ct/v1/dev-001/up/data");
    CHECK(world.broker.published[0].body == "one");
    CHECK(world.broker.published[1].is_retained);
    world.broker.say(MQTT_EVENT_PUBLISHED, world.broker.published[1].id);
    world.broker.say(MQTT_EVENT_PUBLISHED, 999);  // nobody's
    world.broker.say(MQTT_EVENT_PUBLISHED, world.broker.published[0].id);
    world.broker.say(MQTT_EVENT_SUBSCRIBED, 1);
    for (const int expected : {second, first, subscribed}) {
        REQUIRE(world.mqtt.next_event(world.event));
        CHECK(world.event.kind == hal::MqttEvent::Kind::acknowledged);
        CHECK(world.event.id == expected);
    }
    CHECK_FALSE(world.mqtt.next_event(world.event));
}

TEST_CASE("messages come whole, with what is retained marked, and pieces of larger ones are dropped") {
    fake::power_on();
    Connected world;
    const std::string large(4096, 'x');
    world.broker.deliver("ct/v1/dev-001/dn/ack", "{}", true);
    world.broker.deliver("ct/v1/dev-001/dn/config", large);
    REQUIRE(world.mqtt.next_event(world.event));
    CHECK(world.event.is_retained);
    CHECK(world.event.topic == "ct/v1/dev-001/dn/ack");
    REQUIRE(world.mqtt.next_event(world.event));
    CHECK(world.event.payload == large);
    CHECK_FALSE(world.event.is_retained);
    world.broker.deliver("ct/v1/dev-001/dn/x", large, false, 9000);
    world.broker.deliver("ct/v1/dev-001/dn/x", large + std::string(200, 'y'), false);
    world.broker.deliver(std::string(200, 't'), "z", false);
    CHECK_FALSE(world.mqtt.next_event(world.event));
}

TEST_CASE("what belongs to a connection that is over is dropped in both directions") {
    fake::power_on();
    Connected world;
    world.broker.say(MQTT_EVENT_DISCONNECTED);
    CHECK(world.mqtt.publish("t", "of the first", false) > 0);
    world.mqtt.disconnect();
    CHECK(world.mqtt.publish("t", "of none", false) == 0);
    CHECK_FALSE(world.mqtt.next_event(world.event));
    world.mqtt.connect("t", "w");
    world.mqtt.work(true);
    CHECK(world.broker.clients == 2);
    CHECK(world.broker.published.empty());
    CHECK_FALSE(world.mqtt.next_event(world.event));
    world.broker.say(MQTT_EVENT_CONNECTED);
    CHECK(world.mqtt.next_event(world.event));
    world.mqtt.disconnect();
    world.mqtt.work(true);
    CHECK_FALSE(world.broker.is_there);
}

TEST_CASE("a message that the client does not take is a connection that is lost") {
    fake::power_on();
    Connected world;
    world.broker.accepts = false;
    CHECK(world.mqtt.publish("t", "x", false) > 0);
    world.mqtt.work(true);
    REQUIRE(world.mqtt.next_event(world.event));
    CHECK(world.event.kind == hal::MqttEvent::Kind::disconnected);
    CHECK_FALSE(world.mqtt.next_event(world.event));
}

TEST_CASE("more than the buffers take is refused, or ends the connection, and never waits for ever") {
    fake::power_on();
    Connected world;
    const std::string backlog(8000, 'x');
    CHECK(world.mqtt.publish("t", backlog, false) > 0);
    CHECK(world.mqtt.publish("t", backlog, false) == 0);
    CHECK(world.mqtt.publish("t", std::string(9000, 'x'), false) == 0);
    CHECK(world.mqtt.publish(std::string(200, 't'), "x", false) == 0);
    world.mqtt.work(true);
    CHECK(world.broker.published[0].body == backlog);
    CHECK(world.mqtt.publish("t", backlog, false) > 0);
    for (unsigned times = 0; times < 10; ++times) {
        world.broker.deliver("ct/v1/dev-001/dn/config", std::string(4000, 'x'));
    }
    world.mqtt.work(true);
    REQUIRE(world.mqtt.next_event(world.event));
    CHECK(world.event.kind == hal::MqttEvent::Kind::disconnected);
}

TEST_CASE("a connection that is wanted waits for a network, and stale wishes do not pile up") {
    fake::power_on();
    esp32::EspMqtt mqtt(access());
    for (unsigned times = 0; times < 1000; ++times) {
        mqtt.connect("ct/v1/dev-001/up/state", R"({"online":false})");
        mqtt.work(false);
        mqtt.disconnect();
        mqtt.work(false);
    }
    CHECK(fake::sdk().mqtt.clients == 0);
    mqtt.connect("ct/v1/dev-001/up/state", R"({"online":false})");
    mqtt.work(false);
    mqtt.work(true);
    CHECK(fake::sdk().mqtt.clients == 1);
    CHECK(fake::sdk().mqtt.will_topic == "ct/v1/dev-001/up/state");
}

TEST_CASE("Wi-Fi tries again at growing pauses, switches the radio off and on, and gives up once in half an hour") {
    TestRadio radio;
    test::FakeRandom random;
    random.value = 7777777;
    esp32::Wifi wifi(radio, random, "tea", "password");
    wifi.begin("dev-001", 0);
    std::uint64_t now_ms = 0;
    unsigned hopeless = 0;
    const auto pass = [&](std::uint64_t ms) {
        bool is_up = false;
        for (const std::uint64_t end = now_ms + ms; now_ms < end; now_ms += 100) {
            is_up = wifi.step(now_ms);
            hopeless += wifi.is_hopeless(now_ms) ? 1U : 0U;
        }
        return is_up;
    };
    CHECK_FALSE(pass(100));
    CHECK(radio.joins == 1);
    CHECK_FALSE(pass(20 * 60000));
    CHECK(radio.joins >= 15);
    CHECK(radio.joins <= 61);
    CHECK(radio.restarts == 4);
    CHECK(hopeless == 0);
    CHECK_FALSE(pass(60 * 60000));
    CHECK(hopeless == 1);
    radio.is_near = true;
    CHECK(pass(2 * 60000));
    const unsigned before = radio.joins;
    CHECK(pass(60000));
    CHECK(radio.joins == before);
    radio.is_near = false;
    CHECK_FALSE(pass(30000));
    CHECK(radio.joins > before);
}

TEST_CASE("a time server's word is handed on once, at the time that it is by then") {
    fake::power_on();
    esp32::SntpClock clock;
    clock.begin();
    CHECK(clock.utc_ms() == 0);
    fake::sdk().now_us = 5'000'000;
    timeval told = {1795433047, 123000};
    fake::sdk().on_time(&told);
    fake::sdk().now_us = 7'500'000;
    CHECK(clock.utc_ms() == 1795433049623);
    CHECK(clock.utc_ms() == 0);
    fake::sdk().on_time(&told);
    CHECK(clock.utc_ms() == 1795433047123);
}

TEST_CASE("why the chip started is said as the platform knows it") {
    using hal::ResetCause;
    fake::power_on();
    esp32::Chip chip(false), after_update(true);
    for (const auto& [reason, cause] : {std::pair(ESP_RST_POWERON, ResetCause::poweron), std::pair(ESP_RST_SW, ResetCause::software),
                                        std::pair(ESP_RST_PANIC, ResetCause::panic), std::pair(ESP_RST_TASK_WDT, ResetCause::watchdog),
                                        std::pair(ESP_RST_BROWNOUT, ResetCause::brownout)}) {
        fake::sdk().reset_reason = reason;
        CHECK(chip.reset_cause() == cause);
        CHECK(after_update.reset_cause() == (cause == ResetCause::software ? ResetCause::ota : cause));
    }
    CHECK(chip.health().rssi_dbm == -71);
    CHECK(chip.health().heap_free_kib == 120);
}

TEST_CASE("the page shows what is there without secrets, escapes it, and keeps what is left empty") {
    test::FakeValues values;
    static app::Provision::Room room;
    app::Provision provision(values, room);
    static esp32::SetupPage::Page text;
    static esp32::SetupPage::Line line;
    esp32::SetupPage page(provision, values, text, line);
    TestForm form;
    form.fields = {{"id", "dev-007"},   {"password", "pass\"word\\"},        {"wifi_ssid", "<tea> & 'co'"},
                   {"wifi_password", "12345678"}, {"host", "mqtt.example.org"}, {"port", "8884"},
                   {"ca", "-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----\r\n"}, {"cert", ""}};
    REQUIRE(page.take(form));
    CHECK(page.answer().find("Saved") != page.answer().npos);
    const auto kept = [&values](const char* name) {
        const auto& bytes = values.kept[name];
        return std::string(bytes.begin(), bytes.end());
    };
    CHECK(kept("password") == "pass\"word\\");
    CHECK(kept("port") == "8884");
    CHECK(values.kept.count("cert") == 0);
    const std::string shown(page.show());
    CHECK(shown.find("dev-007") != shown.npos);
    CHECK(shown.find("&lt;tea&gt; &amp; &#39;co&#39;") != shown.npos);
    CHECK(shown.find("<tea>") == shown.npos);
    CHECK(shown.find("12345678") == shown.npos);
    CHECK(shown.find("pass") + 1 > 0);
    CHECK(shown.find("word\\") == shown.npos);
    CHECK(shown.find("AAAA") == shown.npos);
    CHECK(shown.find("is there; leave empty to keep it") != shown.npos);
    form.fields = {{"id", "dev-008"}, {"password", ""}, {"port", "many"}};
    CHECK_FALSE(page.take(form));
    CHECK(page.answer().find("Not saved") != page.answer().npos);
    CHECK(page.answer().find("&quot;path&quot;:&quot;port&quot;") != page.answer().npos);
    CHECK(kept("id") == "dev-007");
    form.fields = {{"id", "dev-008"}, {"password", ""}};
    CHECK(page.take(form));
    CHECK(kept("id") == "dev-008");
    CHECK(kept("password") == "pass\"word\\");
    form.fields = {{"ca", std::string(20000, 'x')}};
    CHECK_FALSE(page.take(form));
    CHECK_FALSE(page.answer().empty());
}

TEST_CASE("the password of the access point is made once, of letters that nobody mixes up") {
    test::FakeValues values;
    test::FakeRandom random;
    random.value = 123456789;
    const esp32::SetupPassword first = esp32::setup_password(values, random);
    CHECK(std::string(first.data()).size() == 12);
    random.value = 5;
    CHECK(std::string(esp32::setup_password(values, random).data()) == first.data());
}
