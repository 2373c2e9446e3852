// One connection to a broker, MQTT 3.1.1. Nothing here waits: what happens comes as events.
//
// The client keeps nothing for later. What was published on a connection that is lost counts as not sent: the ring has
// it, and the session sends it again.
#pragma once

#include <string_view>

namespace ct::hal {

struct MqttEvent {
    enum class Kind { connected, disconnected, acknowledged, message };
    Kind kind = Kind::disconnected;
    int id = 0;                 // of what is acknowledged: a publish or a subscription
    std::string_view topic;     // of a message; valid until the next event is asked for
    std::string_view payload;
    bool is_retained = false;
};

class Mqtt {
public:
    // Begins to connect; `connected` or `disconnected` follows. The will is published with QoS 1, retained.
    virtual void connect(std::string_view will_topic, std::string_view will) = 0;
    // After this no event of that connection comes any more. Without a connection it does nothing.
    virtual void disconnect() = 0;
    // With QoS 1. The number by which it will be acknowledged, above 0; 0 where it cannot be taken now.
    virtual int publish(std::string_view topic, std::string_view payload, bool retain) = 0;
    virtual int subscribe(std::string_view topic) = 0;
    virtual bool next_event(MqttEvent& event) = 0;

protected:
    ~Mqtt() = default;
};

}  // namespace ct::hal
