// The small things that a node needs of the machine that it runs on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ct::hal {

// The time of day, as far as somebody has told it (SNTP).
class WallClock {
public:
    // UTC in ms since 1970; 0 while nobody has.
    virtual std::uint64_t utc_ms() = 0;

protected:
    ~WallClock() = default;
};

class Random {
public:
    virtual std::uint32_t next() = 0;

protected:
    ~Random() = default;
};

// A sensor's wire. The adapter asks as the sensor wants to be asked, and gives what came back.
class FrameSource {
public:
    // How many bytes came; 0 where nobody answered.
    virtual std::size_t read(std::uint8_t* to, std::size_t capacity) = 0;

protected:
    ~FrameSource() = default;
};

// What some CO2 heads can do when they are asked. Nothing here waits; the head takes its time by itself.
class Calibration {
public:
    // The gas at the head has no CO2 now. False: the head cannot, or did not take it.
    virtual bool zero() = 0;
    // The gas at the head has so much CO2 now.
    virtual bool span(float ppm) = 0;

protected:
    ~Calibration() = default;
};

// What a health record says of the machine; 0 is "not known".
struct MachineHealth {
    std::int8_t rssi_dbm = 0;
    std::uint16_t heap_free_kib = 0;
};

// Why the machine has started. `ota`: into a new image, for the first time.
enum class ResetCause : std::uint8_t { poweron, software, panic, watchdog, brownout, ota };

class Machine {
public:
    virtual MachineHealth health() = 0;
    virtual ResetCause reset_cause() = 0;
    // Starts the machine anew, on purpose (`software`). It may come back to the caller and do so a little later.
    virtual void reboot() = 0;

protected:
    ~Machine() = default;
};

}  // namespace ct::hal
