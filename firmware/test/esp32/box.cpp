// The whole box with a pretended SDK, in its own tasks and in real time: `setup` and `loop` as on the chip, sensors that
// answer, and a broker with a platform behind it that is cut off now and then.
//
//     ct_esp32_box [seconds]
//
// In the end the platform must have every number once or more, and nothing may have been late. It is what ThreadSanitizer
// is pointed at: cmake -DCMAKE_CXX_FLAGS=-fsanitize=thread.
#include <Arduino.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "boiler_day.h"
#include "ct/sensors/driver.h"
#include "ct/wire/json.h"
#include "fake_sdk.h"

namespace {

using namespace ct;
using fake::Buffer;
using fake::sdk;

constexpr posix::Flue flue = {98000.0, 183.25, 4.12};

void put(const char* name, const std::string& value) { sdk().values[name] = Buffer(value.begin(), value.end()); }

void solder() {
    sdk().is_live = true;
    sdk().add_partition("ring", 0x220000, 64 * 4096);
    sdk().add_partition("app0", 0x20000, 0x100000);
    sdk().add_partition("app1", 0x120000, 0x100000);
    put("id", "dev-001");
    put("password", "secret");
    put("host", "mqtt.example.org");
    put("wifi_ssid", "tea");
    put("wifi_password", "12345678");
    put("ca", "-----BEGIN CERTIFICATE-----\n");
    sdk().uarts[UART_NUM_1].answer = [](const Buffer& asked) {
        const std::string answer = asked[0] == 'Z' ? " Z 09800\r\n" : asked[0] == '.' ? " . 00010\r\n" : " K 00002\r\n";
        return Buffer(answer.begin(), answer.end());
    };
    sdk().uarts[UART_NUM_2].answer = [](const Buffer&) {
        const Buffer pair = posix::frame_of(sensors::Driver(sensors::ModbusMeter{}), flue, 79.5, 1234.5);
        return Buffer(pair.begin() + 8, pair.end());
    };
    sdk().i2c.to_read = posix::frame_of(sensors::Sdp8xx{}, flue, 79.5, 0.0);
    sdk().spi.answer = [](const Buffer&) {
        Buffer answer = posix::frame_of(sensors::Max31856{}, flue, 79.5, 0.0);
        answer.insert(answer.begin(), 0);
        return answer;
    };
}

// The broker and the platform, in a thread of their own as esp-mqtt's task is one.
class Platform {
public:
    std::set<std::int64_t> stored;
    unsigned connections = 0;
    unsigned answers = 0;

    void step() {
        const std::lock_guard<std::recursive_mutex> lock(sdk().mutex);
        fake::Mqtt& broker = sdk().mqtt;
        if (!broker.is_started) {
            is_connected_ = false;
            return;
        }
        if (!is_connected_ || client_ != broker.clients) {
            is_connected_ = true;
            client_ = broker.clients;
            seen_ = subscribed_ = 0;
            ++connections;
            broker.say(MQTT_EVENT_CONNECTED);
        }
        for (; subscribed_ < broker.subscribed.size(); ++subscribed_) {
            broker.say(MQTT_EVENT_SUBSCRIBED, broker.last_id);
            if (stored.empty()) {
                broker.deliver("ct/v1/dev-001/dn/config", R"({"v":1,"rev":1,"sample_s":1,"readings":5})");
                broker.deliver("ct/v1/dev-001/dn/cmd", R"({"v":1,"id":"7c1e09aa","cmd":"zero_cal","args":{}})");
            }
        }
        for (; seen_ < broker.published.size(); ++seen_) {
            take(broker.published[seen_]);
        }
    }
    // Whether it has every number up to the highest, and an answer. For a moment after a cut it may not: what is new goes
    // out before what was kept.
    bool is_satisfied() const {
        return answers > 0 && !stored.empty() && *stored.rbegin() == static_cast<std::int64_t>(stored.size());
    }
    void cut() {
        const std::lock_guard<std::recursive_mutex> lock(sdk().mutex);
        if (is_connected_ && sdk().mqtt.is_started) {
            sdk().mqtt.say(MQTT_EVENT_DISCONNECTED);
        }
    }

private:
    void take(const fake::Message& message) {
        sdk().mqtt.say(MQTT_EVENT_PUBLISHED, message.id);
        answers += message.topic == "ct/v1/dev-001/up/res" ? 1U : 0U;
        const auto body = json::parse(message.body);
        const auto seq = body ? body->member("seq") : std::nullopt;
        if (!seq) {
            return;
        }
        for (std::int64_t at = 0; at < body->member("n")->integer(); ++at) {
            stored.insert(*seq->integer() + at);
        }
        while (stored.count(watermark_ + 1) != 0) {
            ++watermark_;
        }
        const std::string sid(*body->member("sid")->plain_text());
        sdk().mqtt.deliver("ct/v1/dev-001/dn/ack", "{\"sid\":\"" + sid + "\",\"seq\":" + std::to_string(watermark_) +
                                                       ",\"now\":1795433047456,\"credit\":10}");
    }

    bool is_connected_ = false;
    unsigned client_ = 0;
    std::size_t seen_ = 0, subscribed_ = 0;
    std::int64_t watermark_ = 0;
};

}  // namespace

int main(int count, char** words) {
    const double seconds = count > 1 ? std::atof(words[1]) : 8.0;
    solder();
    setup();
    Platform platform;
    std::int64_t steps = 0;
    const auto began = std::chrono::steady_clock::now();
    const auto has_lasted = [began](double how_long) {
        return std::chrono::steady_clock::now() - began >= std::chrono::duration<double>(how_long);
    };
    while (!has_lasted(seconds) || (!platform.is_satisfied() && !has_lasted(seconds + 60.0))) {
        if (++steps % 200 == 0 && !has_lasted(seconds)) {
            platform.cut();
        }
        platform.step();
        loop();  // 20 ms
    }
    const std::lock_guard<std::recursive_mutex> lock(sdk().mutex);  // so that nothing goes on while it is counted
    const bool is_whole = platform.is_satisfied();
    std::printf("%zu records, %u connections, %u answers, %s\n%s", platform.stored.size(), platform.connections,
                platform.answers, is_whole ? "none is missing" : "SOME ARE MISSING", sdk().printed.c_str());
    std::fflush(stdout);
    std::_Exit(is_whole ? 0 : 1);
}
