// What a person at the box sees and hears. The core says on and off, patterns are its own.
#pragma once

namespace ct::hal {

class Signals {
public:
    // Called only when something changes.
    virtual void led(bool is_on) = 0;
    virtual void buzzer(bool is_on) = 0;

protected:
    ~Signals() = default;
};

}  // namespace ct::hal
