#include "mosquitto_client.h"

#include <mosquitto.h>

#include <utility>

namespace ct::posix {

namespace {

constexpr int qos = 1;
constexpr int loop_ms = 100;

}  // namespace

MosquittoClient::MosquittoClient(BrokerAccess access) : access_(std::move(access)) {
    mosquitto_lib_init();
    thread_ = std::thread([this] { run(); });
}

MosquittoClient::~MosquittoClient() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_ending_ = true;
        is_current_ = false;
    }
    wake_.notify_all();
    thread_.join();
    mosquitto_lib_cleanup();
}

// --- what the node asks for

void MosquittoClient::connect(std::string_view will_topic, std::string_view will) {
    const std::lock_guard<std::mutex> lock(mutex_);
    will_topic_ = will_topic;
    will_ = will;
    is_wanted_ = true;
    wake_.notify_all();
}

void MosquittoClient::disconnect() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_wanted_ = false;
    is_current_ = false;
    events_.clear();
    wake_.notify_all();
}

int MosquittoClient::publish(std::string_view topic, std::string_view payload, bool retain) {
    const std::lock_guard<std::mutex> lock(mutex_);
    int id = 0;
    if (client_ == nullptr || !is_current_ ||
        mosquitto_publish(client_, &id, std::string(topic).c_str(), static_cast<int>(payload.size()), payload.data(),
                          qos, retain) != MOSQ_ERR_SUCCESS) {
        return 0;
    }
    return id;
}

int MosquittoClient::subscribe(std::string_view topic) {
    const std::lock_guard<std::mutex> lock(mutex_);
    int id = 0;
    if (client_ == nullptr || !is_current_ ||
        mosquitto_subscribe(client_, &id, std::string(topic).c_str(), qos) != MOSQ_ERR_SUCCESS) {
        return 0;
    }
    return id;
}

bool MosquittoClient::next_event(hal::MqttEvent& event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (events_.empty()) {
        return false;
    }
    handed_out_ = std::move(events_.front());
    events_.pop_front();
    event = {handed_out_.kind, handed_out_.id, handed_out_.topic, handed_out_.payload, handed_out_.is_retained};
    return true;
}

// --- the thread

void MosquittoClient::run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return is_ending_ || is_wanted_; });
        if (is_ending_) {
            return;
        }
        is_wanted_ = false;
        is_current_ = true;
        run_connection(lock);
    }
}

// One connection, until it is lost or nobody wants it any more. The lock is given back wherever it may take time.
void MosquittoClient::run_connection(std::unique_lock<std::mutex>& lock) {
    const std::string will_topic = will_topic_;
    const std::string will = will_;
    lock.unlock();  // also while the client is made: libmosquitto holds its own locks while it calls us
    mosquitto* const client = make_client(will_topic, will);
    int result = client == nullptr
                     ? MOSQ_ERR_NOMEM
                     : mosquitto_connect(client, access_.host.c_str(), access_.port, access_.keepalive_s);
    lock.lock();
    client_ = client;
    while (result == MOSQ_ERR_SUCCESS && is_current_) {
        lock.unlock();
        result = mosquitto_loop(client, loop_ms, 1);
        lock.lock();
    }
    client_ = nullptr;
    const bool is_lost = is_current_;
    is_current_ = false;
    lock.unlock();
    if (client != nullptr) {
        if (mosquitto_disconnect(client) == MOSQ_ERR_SUCCESS) {
            mosquitto_loop(client, loop_ms, 1);  // so that it goes out
        }
        mosquitto_destroy(client);
    }
    lock.lock();
    if (is_lost && !is_wanted_) {
        events_.push_back(Event{});
    }
}

mosquitto* MosquittoClient::make_client(const std::string& will_topic, const std::string& will) {
    // A clean session: the ring remembers, and nothing else needs to.
    mosquitto* const client = mosquitto_new(access_.device_id.c_str(), true, this);
    if (client == nullptr) {
        return nullptr;
    }
    mosquitto_threaded_set(client, true);
    mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V311);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_publish_callback_set(client, on_acknowledged);
    mosquitto_subscribe_callback_set(client, on_subscribed);
    mosquitto_message_callback_set(client, on_message);
    const char* const cert = access_.cert_file.empty() ? nullptr : access_.cert_file.c_str();
    const char* const key = access_.key_file.empty() ? nullptr : access_.key_file.c_str();
    const bool is_set_up =
        mosquitto_username_pw_set(client, access_.device_id.c_str(), access_.password.c_str()) == MOSQ_ERR_SUCCESS &&
        mosquitto_will_set(client, will_topic.c_str(), static_cast<int>(will.size()), will.data(), qos, true) ==
            MOSQ_ERR_SUCCESS &&
        // By default the broker's certificate and its name are checked, and nothing older than TLS 1.2 is spoken.
        (access_.ca_file.empty() ||
         mosquitto_tls_set(client, access_.ca_file.c_str(), nullptr, cert, key, nullptr) == MOSQ_ERR_SUCCESS);
    if (!is_set_up) {
        mosquitto_destroy(client);
        return nullptr;
    }
    return client;
}

void MosquittoClient::push(Event event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_current_) {
        events_.push_back(std::move(event));
    }
}

void MosquittoClient::on_connect(mosquitto*, void* self, int code) {
    Event event;
    event.kind = code == 0 ? hal::MqttEvent::Kind::connected : hal::MqttEvent::Kind::disconnected;
    static_cast<MosquittoClient*>(self)->push(std::move(event));
}

void MosquittoClient::on_acknowledged(mosquitto*, void* self, int id) {
    Event event;
    event.kind = hal::MqttEvent::Kind::acknowledged;
    event.id = id;
    static_cast<MosquittoClient*>(self)->push(std::move(event));
}

void MosquittoClient::on_subscribed(mosquitto* client, void* self, int id, int, const int*) {
    on_acknowledged(client, self, id);
}

void MosquittoClient::on_message(mosquitto*, void* self, const mosquitto_message* message) {
    Event event;
    event.kind = hal::MqttEvent::Kind::message;
    event.topic = message->topic;
    event.payload.assign(static_cast<const char*>(message->payload), static_cast<std::size_t>(message->payloadlen));
    event.is_retained = message->retain;
    static_cast<MosquittoClient*>(self)->push(std::move(event));
}

}  // namespace ct::posix
