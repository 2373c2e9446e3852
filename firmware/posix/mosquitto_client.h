// The connection to the broker by libmosquitto, over TLS. It connects and reads in a thread of its own, because both
// may take seconds and sampling must not wait.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "ct/hal/mqtt.h"

struct mosquitto;
struct mosquitto_message;

namespace ct::posix {

struct BrokerAccess {
    std::string host = "127.0.0.1";
    int port = 8883;
    std::string ca_file;    // empty: no TLS
    std::string cert_file;  // a client certificate, where the broker wants one
    std::string key_file;
    std::string device_id;  // user name and client id
    std::string password;
    int keepalive_s = 30;
};

class MosquittoClient final : public hal::Mqtt {
public:
    explicit MosquittoClient(BrokerAccess access);
    ~MosquittoClient();
    MosquittoClient(const MosquittoClient&) = delete;
    MosquittoClient& operator=(const MosquittoClient&) = delete;

    void connect(std::string_view will_topic, std::string_view will) override;
    void disconnect() override;
    int publish(std::string_view topic, std::string_view payload, bool retain) override;
    int subscribe(std::string_view topic) override;
    bool next_event(hal::MqttEvent& event) override;

private:
    struct Event {
        hal::MqttEvent::Kind kind = hal::MqttEvent::Kind::disconnected;
        int id = 0;
        std::string topic;
        std::string payload;
        bool is_retained = false;
    };

    void run();
    void run_connection(std::unique_lock<std::mutex>& lock);
    mosquitto* make_client(const std::string& will_topic, const std::string& will);
    void push(Event event);

    static void on_connect(mosquitto*, void* self, int code);
    static void on_acknowledged(mosquitto*, void* self, int id);
    static void on_subscribed(mosquitto*, void* self, int id, int count, const int* granted);
    static void on_message(mosquitto*, void* self, const mosquitto_message* message);

    const BrokerAccess access_;
    std::mutex mutex_;  // guards everything below
    std::condition_variable wake_;
    bool is_ending_ = false;
    bool is_wanted_ = false;     // a connection, with this will
    bool is_current_ = false;    // whether the thread's connection is the one that is wanted
    std::string will_topic_;
    std::string will_;
    mosquitto* client_ = nullptr;  // of the connection that stands
    std::deque<Event> events_;
    Event handed_out_;
    std::thread thread_;
};

}  // namespace ct::posix
