// The way to the network, with attempts of its own: the SDK's automatic reconnects stay away for good after some kinds of
// loss, so they are switched off.
//
//     attempt (20 s) --> pause, at random up to a limit that doubles from 2 s to 60 s --> attempt ...
//     5 minutes without a network: the radio is switched off and on
//     30 minutes: the caller should start the machine anew; never for a broker that is away
#pragma once

#include "ct/hal/system.h"

namespace ct::esp32 {

// The radio, as far as it is needed here.
class Radio {
public:
    virtual void start(const char* name) = 0;
    virtual void join(const char* ssid, const char* password) = 0;
    virtual void leave() = 0;
    virtual bool is_joined() = 0;  // with an address
    virtual void restart() = 0;

protected:
    ~Radio() = default;
};

class WifiRadio final : public Radio {
public:
    void start(const char* name) override;
    void join(const char* ssid, const char* password) override;
    void leave() override;
    bool is_joined() override;
    void restart() override;
};

class Wifi {
public:
    // The texts must outlive it.
    Wifi(Radio& radio, hal::Random& random, const char* ssid, const char* password)
        : radio_(radio), random_(random), ssid_(ssid), password_(password) {}

    void begin(const char* name, std::uint64_t now_ms);
    // Whether there is a network now.
    bool step(std::uint64_t now_ms);
    // Once: nothing has helped for half an hour.
    bool is_hopeless(std::uint64_t now_ms);

private:
    Radio& radio_;
    hal::Random& random_;
    const char* ssid_;
    const char* password_;
    bool is_trying_ = false;
    bool is_joined_ = false;
    bool has_given_up_ = false;
    unsigned attempts_ = 0;           // in a row
    std::uint64_t due_ms_ = 0;        // when an attempt is over, or a pause
    std::uint64_t without_since_ms_ = 0;
    std::uint64_t radio_since_ms_ = 0;
};

}  // namespace ct::esp32
