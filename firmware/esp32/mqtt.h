// The connection to the broker by esp-mqtt, over TLS.
//
// esp-mqtt may keep whoever calls it for seconds: its lock is held while its own task writes to a slow network. So the
// node's calls only leave orders in a buffer, and `work` carries them out, in the network's task and outside of the
// node's lock. What happens comes from esp-mqtt's task through another buffer.
//
//     node (locked) --orders--> work() --> esp-mqtt --events--> next_event() (locked)
//
// Each connection is a client of its own, with a new number: what an earlier one had to say or to do is dropped, and
// nothing stays in esp-mqtt's outbox. The node's ring is the only store.
#pragma once

#include <freertos/FreeRTOS.h>
#include <freertos/message_buffer.h>
#include <mqtt_client.h>

#include <array>
#include <atomic>

#include "ct/hal/mqtt.h"
#include "ct/wire/message.h"

namespace ct::esp32 {

// Texts that outlive the client; nullptr where there is none.
struct BrokerAccess {
    const char* host = nullptr;
    std::uint32_t port = 8883;
    const char* ca = nullptr;  // PEM. Without it nothing is connected to
    const char* cert = nullptr;
    const char* key = nullptr;
    const char* device_id = nullptr;  // user name and client id
    const char* password = nullptr;
};

class EspMqtt final : public hal::Mqtt {
public:
    explicit EspMqtt(const BrokerAccess& access);
    EspMqtt(const EspMqtt&) = delete;
    EspMqtt& operator=(const EspMqtt&) = delete;

    void connect(std::string_view will_topic, std::string_view will) override;
    void disconnect() override;
    int publish(std::string_view topic, std::string_view payload, bool retain) override;
    int subscribe(std::string_view topic) override;
    bool next_event(hal::MqttEvent& event) override;

    // Does what was ordered; it may take seconds. Only in the task that also calls `next_event`. Without a network
    // (`has_network`) a connection that is wanted waits until there is one.
    void work(bool has_network);

private:
    enum class Order : std::uint8_t { connect, publish, subscribe };
    static constexpr std::size_t longest_topic = 128;
    static constexpr std::size_t largest_down = 4096;  // of a message of the platform
    static constexpr std::size_t most_in_flight = 24;

    struct OrderHead {
        Order order = Order::publish;
        bool is_retained = false;
        std::uint16_t topic_size = 0;
        std::uint32_t connection = 0;
        int id = 0;
    };
    struct EventHead {
        hal::MqttEvent::Kind kind = hal::MqttEvent::Kind::disconnected;
        bool is_retained = false;
        std::uint16_t topic_size = 0;
        std::uint32_t connection = 0;
        int esp_id = 0;
    };
    struct Flight {
        int id = 0;  // 0: none
        int esp_id = 0;
    };

    bool leave(OrderHead head, std::string_view topic, std::string_view payload);
    std::size_t next_order();
    void carry_out(std::size_t size);
    void open(const char* will_topic, std::string_view will);
    void close();
    static void on_event(void* self, esp_event_base_t base, std::int32_t id, void* data);
    void take(const esp_mqtt_event_t& event);
    void tell(EventHead head, std::string_view topic, std::string_view payload);

    const BrokerAccess access_;
    MessageBufferHandle_t orders_;
    MessageBufferHandle_t events_;

    // The node's side, under its lock.
    std::atomic<std::uint32_t> wanted_ = 0;  // connection; 0: none
    std::uint32_t connections_ = 0;
    int last_id_ = 0;
    std::array<char, sizeof(OrderHead) + longest_topic + wire::largest_message> order_ = {};

    // The network's task.
    esp_mqtt_client_handle_t client_ = nullptr;
    std::atomic<std::uint32_t> current_ = 0;  // connection of the client
    std::atomic<bool> has_lost_event_ = false;
    std::size_t waiting_ = 0;                 // size of an order in carried_ that waits for a network; 0: none
    bool is_broken_ = false;                  // the client, and the node does not know it yet
    std::array<Flight, most_in_flight> flights_ = {};
    std::size_t next_flight_ = 0;
    std::array<char, sizeof(OrderHead) + longest_topic + wire::largest_message + 2> carried_ = {};
    std::array<char, sizeof(EventHead) + longest_topic + largest_down> handed_out_ = {};

    // esp-mqtt's task.
    std::array<char, sizeof(EventHead) + longest_topic + largest_down> told_ = {};
};

}  // namespace ct::esp32
