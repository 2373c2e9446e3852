// Sensors on their wires, asked without waiting: `poll` starts a conversion or a question, goes away, and comes back for
// the answer. It is called some fifty times a second by the task that measures, outside of the node's lock; the longest
// call is an I2C transfer of nine bytes (1 ms at 100 kHz, 5 ms where the bus hangs).
//
// `read` gives the newest frame, as long as it is fresh: a node that reads faster than a sensor converts gets the same
// frame twice. A sensor that is silent gives nothing.
#pragma once

#include <driver/i2c_master.h>
#include <driver/pulse_cnt.h>
#include <driver/spi_master.h>
#include <driver/uart.h>

#include <array>
#include <atomic>
#include <string_view>

#include "ct/hal/system.h"
#include "ct/sensors/frame.h"

namespace ct::esp32 {

class Source : public hal::FrameSource {
public:
    virtual void poll(std::uint64_t now_ms) = 0;
    std::size_t read(std::uint8_t* to, std::size_t capacity) final;

protected:
    explicit Source(std::uint32_t fresh_ms) : fresh_ms_(fresh_ms) {}
    ~Source() = default;

    void look_at_clock(std::uint64_t now_ms) { now_ms_ = now_ms; }
    void keep(Bytes frame);
    bool is_due(std::uint64_t at_ms) const { return now_ms_ >= at_ms; }

    std::uint64_t now_ms_ = 0;

private:
    std::array<std::uint8_t, 160> frame_ = {};
    std::size_t size_ = 0;
    std::uint64_t kept_ms_ = 0;
    std::uint32_t fresh_ms_;
};

// What a command asks of a CO2 head, from one task to the other: it is sent at the next poll.
class Wish final : public hal::Calibration {
public:
    bool zero() override { return span(0.0F); }
    bool span(float ppm) override {
        wish_ = ppm;
        return true;
    }
    // The ppm that the gas has, 0 for zero; below 0: nothing is wished.
    float take() { return wish_.exchange(-1.0F); }

private:
    std::atomic<float> wish_ = -1.0F;
};

// 9600 8N1; with a pin for DE it is RS-485.
bool open_uart(uart_port_t port, int tx, int rx, int baud, int de = UART_PIN_NO_CHANGE);

class Mhz19Source final : public Source {
public:
    explicit Mhz19Source(uart_port_t port) : Source(2500), port_(port) {}
    void poll(std::uint64_t now_ms) override;
    hal::Calibration& calibration() { return wish_; }

private:
    void say(std::uint8_t command, std::uint16_t value = 0);

    uart_port_t port_;
    Wish wish_;
    bool is_set_up_ = false;
    bool is_asked_ = false;
    std::uint64_t due_ms_ = 0;
    std::uint64_t give_up_ms_ = 0;
    std::array<std::uint8_t, 9> answer_ = {};
    std::size_t got_ = 0;
};

// Heads of GSS. Each frame has the reading and the multiplier by which it counts, as the head says it.
class GssSource final : public Source {
public:
    explicit GssSource(uart_port_t port) : Source(2500), port_(port) {}
    void poll(std::uint64_t now_ms) override;
    hal::Calibration& calibration() { return wish_; }

private:
    enum class Step { idle, set_up, reading, multiplier };

    void say(std::string_view line, Step next);
    bool hear();
    void take_line(Bytes line);
    void grant(float ppm);

    uart_port_t port_;
    Wish wish_;
    Step step_ = Step::idle;
    bool is_set_up_ = false;
    unsigned multiplier_ = 0;  // 0: not known yet
    std::uint64_t due_ms_ = 0;
    std::uint64_t give_up_ms_ = 0;
    std::array<std::uint8_t, 64> line_ = {};
    std::size_t got_ = 0;
    std::array<std::uint8_t, 64> reading_ = {};
    std::size_t reading_size_ = 0;
};

// Modbus RTU meters: one register after the other, once a second. Those that answer make the frame.
class ModbusSource final : public Source {
public:
    ModbusSource(uart_port_t port, const sensors::ModbusMeter& meter) : Source(3000), port_(port), meter_(meter) {}
    void poll(std::uint64_t now_ms) override;

private:
    void ask();
    void hear();
    void go_on(bool has_answer);

    uart_port_t port_;
    sensors::ModbusMeter meter_;
    std::size_t which_ = 0;
    bool is_asked_ = false;
    std::uint64_t due_ms_ = 0;
    std::uint64_t give_up_ms_ = 0;
    std::array<std::uint8_t, 160> pairs_ = {};  // of questions and answers
    std::size_t size_ = 0;
    std::size_t answer_at_ = 0;
};

// SDP8xx: measures all the time, and gives the mean since it was last read.
class Sdp8xxSource final : public Source {
public:
    Sdp8xxSource(i2c_master_bus_handle_t bus) : Source(1000), bus_(bus) {}
    bool open();
    void poll(std::uint64_t now_ms) override;

private:
    i2c_master_bus_handle_t bus_;
    i2c_master_dev_handle_t device_ = nullptr;
    bool is_started_ = false;
    unsigned failures_ = 0;
    std::uint64_t due_ms_ = 0;
};

enum class Converter { max31856, max31855, max6675 };

class ThermocoupleSource final : public Source {
public:
    explicit ThermocoupleSource(Converter converter) : Source(1500), converter_(converter) {}
    bool open(spi_host_device_t host, int chip_select);
    void poll(std::uint64_t now_ms) override;

private:
    bool exchange(const std::uint8_t* out, std::uint8_t* in, std::size_t size);
    void start();
    void fetch();

    Converter converter_;
    spi_device_handle_t device_ = nullptr;
    bool is_converting_ = false;
    std::uint64_t due_ms_ = 0;
};

// Pulses of an anemometer, counted by hardware: how many there were in how many ms.
class PulseSource final : public Source {
public:
    PulseSource() : Source(2500) {}
    bool open(int pin, std::uint32_t shortest_ns);
    void poll(std::uint64_t now_ms) override;

private:
    pcnt_unit_handle_t unit_ = nullptr;
    bool has_begun_ = false;
    int last_count_ = 0;
    std::uint64_t since_ms_ = 0;
};

}  // namespace ct::esp32
