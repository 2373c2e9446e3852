#include "mqtt.h"

#include <algorithm>
#include <cstring>

namespace ct::esp32 {

namespace {

constexpr int qos = 1;
constexpr int keepalive_s = 30;
constexpr int network_ms = 10000;
// The session looks after what is not acknowledged, and ends the connection after a minute; TCP does the rest. With
// esp-mqtt's default of a second everything would go out twice on a slow link.
constexpr int retransmit_ms = 120000;
constexpr int receive_buffer = 4096 + 256;  // so that a message of the platform comes in one piece
constexpr int send_buffer = 2048;           // longer ones go out piece by piece
constexpr int task_priority = 5;
constexpr int task_stack = 6144;
constexpr std::size_t orders_size = 12 * 1024;
constexpr std::size_t events_size = 6 * 1024;
constexpr TickType_t event_patience = pdMS_TO_TICKS(2000);

// A head, then the topic, then the rest. The size of it all; 0 where it does not fit.
template <typename Head, std::size_t capacity>
std::size_t put_together(std::array<char, capacity>& to, const Head& head, std::string_view topic,
                         std::string_view payload) {
    if (sizeof head + topic.size() + payload.size() > capacity) {
        return 0;
    }
    std::memcpy(to.data(), &head, sizeof head);
    std::copy(payload.begin(), payload.end(), std::copy(topic.begin(), topic.end(), to.begin() + sizeof head));
    return sizeof head + topic.size() + payload.size();
}

}  // namespace

EspMqtt::EspMqtt(const BrokerAccess& access)
    : access_(access), orders_(xMessageBufferCreate(orders_size)), events_(xMessageBufferCreate(events_size)) {}

// --- the node's side: nothing waits

void EspMqtt::connect(std::string_view will_topic, std::string_view will) {
    wanted_ = ++connections_;
    OrderHead head;
    head.order = Order::connect;
    leave(head, will_topic, will);  // where it is not taken nothing comes, and the session tries again
}

void EspMqtt::disconnect() { wanted_ = 0; }

int EspMqtt::publish(std::string_view topic, std::string_view payload, bool retain) {
    OrderHead head;
    head.is_retained = retain;
    head.id = ++last_id_;
    return leave(head, topic, payload) ? head.id : 0;
}

int EspMqtt::subscribe(std::string_view topic) {
    OrderHead head;
    head.order = Order::subscribe;
    head.id = ++last_id_;
    return leave(head, topic, {}) ? head.id : 0;
}

bool EspMqtt::leave(OrderHead head, std::string_view topic, std::string_view payload) {
    head.connection = wanted_;
    head.topic_size = static_cast<std::uint16_t>(topic.size());
    if (head.connection == 0 || topic.size() >= longest_topic) {
        return false;
    }
    const std::size_t size = put_together(order_, head, topic, payload);
    return size != 0 && xMessageBufferSend(orders_, order_.data(), size, 0) == size;
}

bool EspMqtt::next_event(hal::MqttEvent& event) {
    if (is_broken_ && wanted_ != 0 && wanted_ == current_) {
        is_broken_ = false;
        event = {};
        return true;
    }
    while (true) {
        const std::size_t size = xMessageBufferReceive(events_, handed_out_.data(), handed_out_.size(), 0);
        if (size < sizeof(EventHead)) {
            return false;
        }
        EventHead head;
        std::memcpy(&head, handed_out_.data(), sizeof head);
        if (head.connection != wanted_) {
            continue;  // of a connection that nobody wants any more
        }
        event = {};
        event.kind = head.kind;
        event.is_retained = head.is_retained;
        event.topic = {handed_out_.data() + sizeof head, head.topic_size};
        event.payload = {handed_out_.data() + sizeof head + head.topic_size, size - sizeof head - head.topic_size};
        if (head.kind != hal::MqttEvent::Kind::acknowledged) {
            return true;
        }
        for (Flight& flight : flights_) {
            if (flight.id != 0 && flight.esp_id == head.esp_id) {
                event.id = flight.id;
                flight = {};
                return true;
            }
        }
    }
}

// --- the network's task

void EspMqtt::work(bool has_network) {
    if (client_ != nullptr && current_ != wanted_) {
        close();
    }
    if (has_lost_event_.exchange(false)) {
        is_broken_ = true;
    }
    while (const std::size_t size = next_order()) {
        OrderHead head;
        std::memcpy(&head, carried_.data(), sizeof head);
        waiting_ = head.connection == wanted_ && head.order == Order::connect && !has_network ? size : 0;
        if (waiting_ != 0) {
            return;
        }
        if (head.connection == wanted_) {
            carry_out(size);
        }
    }
}

// Into `carried_`; the one that waits comes first. Its size, 0: there is none.
std::size_t EspMqtt::next_order() {
    return waiting_ != 0 ? waiting_ : xMessageBufferReceive(orders_, carried_.data(), carried_.size() - 2, 0);
}

void EspMqtt::carry_out(std::size_t size) {
    OrderHead head;
    std::memcpy(&head, carried_.data(), sizeof head);
    // esp-mqtt wants a zero behind the topic, so the payload makes room for it; and one behind the payload.
    char* const topic = carried_.data() + sizeof head;
    char* const payload = topic + head.topic_size + 1;
    const std::size_t payload_size = size - sizeof head - head.topic_size;
    std::memmove(payload, payload - 1, payload_size);
    payload[-1] = payload[payload_size] = '\0';
    if (head.order == Order::connect) {
        close();
        current_ = head.connection;
        open(topic, {payload, payload_size});
        is_broken_ = client_ == nullptr;
        return;
    }
    if (client_ == nullptr || is_broken_) {
        return;
    }
    const int esp_id = head.order == Order::subscribe
                           ? esp_mqtt_client_subscribe_single(client_, topic, qos)
                           : esp_mqtt_client_publish(client_, topic, payload, static_cast<int>(payload_size), qos,
                                                     head.is_retained ? 1 : 0);
    if (esp_id <= 0) {
        is_broken_ = true;  // it was promised to the node: only a new connection makes that good
        return;
    }
    flights_[next_flight_] = {head.id, esp_id};
    next_flight_ = (next_flight_ + 1) % flights_.size();
}

void EspMqtt::open(const char* will_topic, std::string_view will) {
    if (access_.ca == nullptr || access_.host == nullptr) {
        return;
    }
    esp_mqtt_client_config_t config = {};
    config.broker.address.hostname = access_.host;
    config.broker.address.port = access_.port;
    config.broker.address.transport = MQTT_TRANSPORT_OVER_SSL;
    config.broker.verification.certificate = access_.ca;  // only this one is trusted; the name is checked as well
    config.credentials.username = access_.device_id;
    config.credentials.client_id = access_.device_id;
    config.credentials.authentication.password = access_.password;
    config.credentials.authentication.certificate = access_.cert;
    config.credentials.authentication.key = access_.key;
    config.session.last_will.topic = will_topic;
    config.session.last_will.msg = will.data();
    config.session.last_will.msg_len = static_cast<int>(will.size());
    config.session.last_will.qos = qos;
    config.session.last_will.retain = 1;
    config.session.keepalive = keepalive_s;
    config.session.protocol_ver = MQTT_PROTOCOL_V_3_1_1;
    config.session.message_retransmit_timeout = retransmit_ms;
    config.network.timeout_ms = network_ms;
    config.network.disable_auto_reconnect = true;  // the session has a back-off with jitter of its own
    config.task.priority = task_priority;
    config.task.stack_size = task_stack;
    config.buffer.size = receive_buffer;
    config.buffer.out_size = send_buffer;
    client_ = esp_mqtt_client_init(&config);  // which copies the texts, but not the certificates
    if (client_ != nullptr && (esp_mqtt_client_register_event(client_, MQTT_EVENT_ANY, on_event, this) != ESP_OK ||
                               esp_mqtt_client_start(client_) != ESP_OK)) {
        esp_mqtt_client_destroy(client_);
        client_ = nullptr;
    }
}

// Says goodbye to the broker where there is a connection, and waits for esp-mqtt's task to end.
void EspMqtt::close() {
    if (client_ != nullptr) {
        esp_mqtt_client_destroy(client_);
        client_ = nullptr;
    }
    flights_ = {};
    is_broken_ = false;
    has_lost_event_ = false;
}

// --- esp-mqtt's task

void EspMqtt::on_event(void* self, esp_event_base_t, std::int32_t, void* data) {
    static_cast<EspMqtt*>(self)->take(*static_cast<const esp_mqtt_event_t*>(data));
}

void EspMqtt::take(const esp_mqtt_event_t& event) {
    using Kind = hal::MqttEvent::Kind;
    EventHead head;
    head.esp_id = event.msg_id;
    switch (event.event_id) {
        case MQTT_EVENT_CONNECTED: head.kind = Kind::connected; break;
        case MQTT_EVENT_DISCONNECTED: head.kind = Kind::disconnected; break;
        case MQTT_EVENT_PUBLISHED:
        case MQTT_EVENT_SUBSCRIBED: head.kind = Kind::acknowledged; break;
        case MQTT_EVENT_DATA:
            head.kind = Kind::message;
            head.is_retained = event.retain;
            if (event.current_data_offset == 0 && event.data_len == event.total_data_len) {
                tell(head, {event.topic, static_cast<std::size_t>(event.topic_len)},
                     {event.data, static_cast<std::size_t>(event.data_len)});
            }
            return;  // what came in pieces is larger than anything that is ever said to a node
        default: return;  // an error is followed by `disconnected`
    }
    tell(head, {}, {});
}

void EspMqtt::tell(EventHead head, std::string_view topic, std::string_view payload) {
    head.connection = current_;
    head.topic_size = static_cast<std::uint16_t>(topic.size());
    const std::size_t size = topic.size() < longest_topic ? put_together(told_, head, topic, payload) : 0;
    if (size != 0 && xMessageBufferSend(events_, told_.data(), size, event_patience) != size) {
        has_lost_event_ = true;  // the network's task does not come round: the connection is not worth much
    }
}

}  // namespace ct::esp32
