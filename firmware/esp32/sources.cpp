#include "sources.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ct/crc.h"

namespace ct::esp32 {

std::size_t Source::read(std::uint8_t* to, std::size_t capacity) {
    if (size_ == 0 || size_ > capacity || now_ms_ - kept_ms_ > fresh_ms_) {
        return 0;
    }
    std::memcpy(to, frame_.data(), size_);
    return size_;
}

void Source::keep(Bytes frame) {
    size_ = frame.size <= frame_.size() ? frame.size : 0;
    std::memcpy(frame_.data(), frame.data, size_);
    kept_ms_ = now_ms_;
}

// --- UART

bool open_uart(uart_port_t port, int tx, int rx, int baud, int de) {
    constexpr int buffer = 256;  // with a buffer for sending nobody waits while it is sent
    uart_config_t config = {};
    config.baud_rate = baud;
    config.data_bits = UART_DATA_8_BITS;
    config.parity = UART_PARITY_DISABLE;
    config.stop_bits = UART_STOP_BITS_1;
    config.flow_ctrl = UART_HW_FLOWCTRL_DISABLE;
    config.source_clk = UART_SCLK_DEFAULT;
    const bool is_bus = de != UART_PIN_NO_CHANGE;  // then the driver switches DE, and does not hear itself
    return uart_driver_install(port, buffer, buffer, 0, nullptr, 0) == ESP_OK &&
           uart_param_config(port, &config) == ESP_OK && uart_set_pin(port, tx, rx, de, UART_PIN_NO_CHANGE) == ESP_OK &&
           uart_set_mode(port, is_bus ? UART_MODE_RS485_HALF_DUPLEX : UART_MODE_UART) == ESP_OK;
}

namespace {

// What has come, up to `capacity` bytes.
std::size_t hear_some(uart_port_t port, std::uint8_t* to, std::size_t capacity) {
    const int got = capacity == 0 ? 0 : uart_read_bytes(port, to, static_cast<std::uint32_t>(capacity), 0);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
}

}  // namespace

// --- MH-Z19

void Mhz19Source::say(std::uint8_t command, std::uint16_t value) {
    std::array<std::uint8_t, 9> question = {0xFF, 0x01, command, static_cast<std::uint8_t>(value >> 8),
                                            static_cast<std::uint8_t>(value)};
    unsigned sum = 0;
    for (std::size_t at = 1; at < 8; ++at) {
        sum += question[at];
    }
    question[8] = static_cast<std::uint8_t>(0x100U - (sum & 0xFFU));
    uart_flush_input(port_);  // what is left of an answer that came too late
    uart_write_bytes(port_, question.data(), question.size());
}

void Mhz19Source::poll(std::uint64_t now_ms) {
    constexpr std::uint8_t read = 0x86, self_calibration = 0x79, zero = 0x87, span = 0x88;
    constexpr std::uint64_t period_ms = 1000, patience_ms = 200;
    look_at_clock(now_ms);
    if (is_asked_) {
        got_ += hear_some(port_, answer_.data() + got_, answer_.size() - got_);
        if (got_ == answer_.size()) {
            keep({answer_.data(), answer_.size()});
            is_asked_ = false;
        } else if (is_due(give_up_ms_)) {
            is_asked_ = false;
            is_set_up_ = false;  // it may have started anew, and then it calibrates itself again
        }
        return;
    }
    if (!is_due(due_ms_)) {
        return;
    }
    due_ms_ = now_ms_ + period_ms;
    if (const float wish = wish_.take(); wish >= 0.0F) {
        say(wish > 0.0F ? span : zero, static_cast<std::uint16_t>(wish < 65535.0F ? wish : 65535.0F));
        return;  // it answers nothing to that
    }
    if (!is_set_up_) {
        say(self_calibration);  // off: it would take the least gas of a day for fresh air
        is_set_up_ = true;
        return;
    }
    say(read);
    is_asked_ = true;
    got_ = 0;
    give_up_ms_ = now_ms_ + patience_ms;
}

// --- GSS

void GssSource::say(std::string_view line, Step next) {
    constexpr std::uint64_t patience_ms = 300;
    uart_flush_input(port_);
    uart_write_bytes(port_, line.data(), line.size());
    step_ = next;
    got_ = 0;
    give_up_ms_ = now_ms_ + patience_ms;
}

// True: a line is whole, with its end.
bool GssSource::hear() {
    while (got_ < line_.size() && hear_some(port_, line_.data() + got_, 1) == 1) {
        if (line_[got_++] == '\n') {
            return true;
        }
    }
    return false;
}

void GssSource::take_line(Bytes line) {
    const auto begins = [&line](char letter) {
        return line.size >= 10 && line[0] == ' ' && line[1] == static_cast<std::uint8_t>(letter);
    };
    if (step_ == Step::set_up) {
        is_set_up_ = true;
        step_ = Step::idle;
    } else if (step_ == Step::reading && begins('Z')) {
        std::memcpy(reading_.data(), line.data, line.size);
        reading_size_ = line.size;
        say(".\r\n", Step::multiplier);
    } else if (step_ == Step::multiplier && begins('.')) {
        multiplier_ = static_cast<unsigned>(std::atoi(reinterpret_cast<const char*>(line.data) + 2));
        std::array<std::uint8_t, 128> frame;
        std::memcpy(frame.data(), reading_.data(), reading_size_);
        std::memcpy(frame.data() + reading_size_, line.data, line.size);
        keep({frame.data(), reading_size_ + line.size});
        step_ = Step::idle;
    } else {
        got_ = 0;  // something else: the head has started anew and streams. The next line, or the end of patience
    }
}

// A wish for a calibration: U is zero in nitrogen, X is a known gas, in units of the head.
void GssSource::grant(float ppm) {
    if (ppm <= 0.0F) {
        say("U\r\n", Step::set_up);
    } else if (multiplier_ != 0) {
        char line[16];
        const int size = std::snprintf(line, sizeof line, "X %u\r\n", static_cast<unsigned>(ppm) / multiplier_);
        say({line, static_cast<std::size_t>(size)}, Step::set_up);
    }
}

void GssSource::poll(std::uint64_t now_ms) {
    constexpr std::uint64_t period_ms = 500;
    look_at_clock(now_ms);
    if (step_ != Step::idle) {
        if (hear()) {
            take_line({line_.data(), got_});
        } else if (is_due(give_up_ms_) || got_ == line_.size()) {
            step_ = Step::idle;
            is_set_up_ = false;
        }
        return;
    }
    if (!is_due(due_ms_)) {
        return;
    }
    due_ms_ = now_ms_ + period_ms;
    if (const float wish = wish_.take(); wish >= 0.0F) {
        grant(wish);
    } else if (!is_set_up_) {
        say("K 2\r\n", Step::set_up);  // it answers when it is asked, and not by itself
    } else {
        say("Z\r\n", Step::reading);
    }
}

// --- Modbus

void ModbusSource::ask() {
    constexpr std::size_t request = 8;
    constexpr std::uint64_t patience_ms = 250;
    const sensors::Register& place = meter_.registers[which_];
    const std::uint8_t words = place.form == sensors::Form::uint16 ? 1 : 2;
    std::uint8_t* const to = pairs_.data() + size_;
    const std::array<std::uint8_t, 6> head = {place.unit,
                                              place.function,
                                              static_cast<std::uint8_t>(place.address >> 8),
                                              static_cast<std::uint8_t>(place.address),
                                              0,
                                              words};
    std::memcpy(to, head.data(), head.size());
    put_le(to + head.size(), crc16({head.data(), head.size()}));
    answer_at_ = size_ + request;
    uart_flush_input(port_);
    uart_write_bytes(port_, to, request);
    is_asked_ = true;
    give_up_ms_ = now_ms_ + patience_ms;
}

void ModbusSource::hear() {
    const std::uint8_t* const request = pairs_.data() + size_;
    const std::size_t whole = 5 + 2 * std::size_t{request[5]};
    const std::size_t had = answer_at_ - size_ - 8;
    answer_at_ += hear_some(port_, pairs_.data() + answer_at_, whole - had);
    const std::size_t got = answer_at_ - size_ - 8;
    const bool is_exception = got >= 5 && request[8 + 1] == (request[1] | 0x80U);
    if (got == whole || is_exception) {
        // One bad answer must not spoil the others: it is left out, as if there had been none.
        go_on(!is_exception && crc16({request + 8, whole}) == 0);
    } else if (is_due(give_up_ms_)) {
        go_on(false);
    }
}

void ModbusSource::go_on(bool has_answer) {
    size_ = has_answer ? answer_at_ : size_;
    is_asked_ = false;
    if (++which_ < meter_.count && size_ + 8 + 9 <= pairs_.size()) {
        return;
    }
    if (size_ > 0) {
        keep({pairs_.data(), size_});
    }
    which_ = size_ = 0;
    due_ms_ = now_ms_ + 1000;
}

void ModbusSource::poll(std::uint64_t now_ms) {
    look_at_clock(now_ms);
    if (is_asked_) {
        hear();
    } else if (meter_.count > 0 && is_due(due_ms_)) {
        ask();  // the pause between two polls is longer than the 3.5 letters that must lie between two frames
    }
}

// --- SDP8xx

bool Sdp8xxSource::open() {
    i2c_device_config_t config = {};
    config.dev_addr_length = I2C_ADDR_BIT_LEN_7;
    config.device_address = 0x25;
    config.scl_speed_hz = 100000;
    return i2c_master_bus_add_device(bus_, &config, &device_) == ESP_OK;
}

void Sdp8xxSource::poll(std::uint64_t now_ms) {
    constexpr std::uint8_t mean_until_read[] = {0x36, 0x15};  // differential pressure, temperature compensated
    constexpr int patience_ms = 5;
    constexpr std::uint64_t first_ms = 20, period_ms = 200, retry_ms = 1000;
    constexpr unsigned most_failures = 3;
    look_at_clock(now_ms);
    if (device_ == nullptr || !is_due(due_ms_)) {
        return;
    }
    if (!is_started_) {
        is_started_ = i2c_master_transmit(device_, mean_until_read, sizeof mean_until_read, patience_ms) == ESP_OK;
        due_ms_ = now_ms_ + (is_started_ ? first_ms : retry_ms);
        if (!is_started_) {
            i2c_master_bus_reset(bus_);  // somebody may hold the line down
        }
        return;
    }
    std::array<std::uint8_t, 9> frame;
    if (i2c_master_receive(device_, frame.data(), frame.size(), patience_ms) == ESP_OK) {
        keep({frame.data(), frame.size()});
        failures_ = 0;
    } else if (++failures_ >= most_failures) {
        failures_ = 0;
        is_started_ = false;  // it was without power, and has forgotten that it should measure
    }
    due_ms_ = now_ms_ + period_ms;
}

// --- thermocouples

bool ThermocoupleSource::open(spi_host_device_t host, int chip_select) {
    spi_device_interface_config_t config = {};
    config.mode = converter_ == Converter::max31856 ? 1 : 0;
    config.clock_speed_hz = 1000000;
    config.spics_io_num = chip_select;
    config.queue_size = 1;
    return spi_bus_add_device(host, &config, &device_) == ESP_OK;
}

bool ThermocoupleSource::exchange(const std::uint8_t* out, std::uint8_t* in, std::size_t size) {
    spi_transaction_t transaction = {};
    transaction.length = 8 * size;
    transaction.tx_buffer = out;
    transaction.rx_buffer = in;
    return spi_device_polling_transmit(device_, &transaction) == ESP_OK;
}

// The MAX31856 converts when it is told to; the others do by themselves as soon as nobody reads.
void ThermocoupleSource::start() {
    if (converter_ == Converter::max31856) {
        // Written each time, so that a chip that was without power is set up as well: CR0 (one conversion, open
        // circuits are looked for, 50 Hz), CR1 (no averaging, type K).
        constexpr std::uint8_t type_k[] = {0x81, 0x03};
        constexpr std::uint8_t one_shot[] = {0x80, 0x51};
        std::uint8_t ignored[2];
        exchange(type_k, ignored, sizeof type_k);
        exchange(one_shot, ignored, sizeof one_shot);
    }
}

void ThermocoupleSource::fetch() {
    if (converter_ == Converter::max31856) {
        constexpr std::uint8_t from_0a[7] = {0x0A};
        std::array<std::uint8_t, 7> answer = {};
        if (exchange(from_0a, answer.data(), answer.size())) {
            keep({answer.data() + 1, 6});
        }
        return;
    }
    constexpr std::uint8_t nothing[4] = {};
    std::array<std::uint8_t, 4> answer = {};
    const std::size_t size = converter_ == Converter::max31855 ? 4 : 2;
    if (exchange(nothing, answer.data(), size)) {
        keep({answer.data(), size});
    }
}

void ThermocoupleSource::poll(std::uint64_t now_ms) {
    constexpr std::uint64_t conversion_ms = 230;  // 185 of a MAX31856, 220 of a MAX6675, at most
    look_at_clock(now_ms);
    if (device_ == nullptr || !is_due(due_ms_)) {
        return;
    }
    if (is_converting_) {
        fetch();
    }
    start();
    is_converting_ = true;
    due_ms_ = now_ms_ + conversion_ms;
}

// --- pulses

bool PulseSource::open(int pin, std::uint32_t shortest_ns) {
    constexpr int limit = 30000;
    pcnt_unit_config_t unit = {};
    unit.low_limit = -1;
    unit.high_limit = limit;
    unit.flags.accum_count = 1;  // it goes on beyond the limit
    pcnt_chan_config_t wire = {};
    wire.edge_gpio_num = pin;
    wire.level_gpio_num = -1;
    pcnt_glitch_filter_config_t filter = {};
    filter.max_glitch_ns = shortest_ns;
    pcnt_channel_handle_t channel = nullptr;
    return pcnt_new_unit(&unit, &unit_) == ESP_OK && pcnt_unit_set_glitch_filter(unit_, &filter) == ESP_OK &&
           pcnt_new_channel(unit_, &wire, &channel) == ESP_OK &&
           pcnt_channel_set_edge_action(channel, PCNT_CHANNEL_EDGE_ACTION_INCREASE, PCNT_CHANNEL_EDGE_ACTION_HOLD) ==
               ESP_OK &&
           pcnt_unit_add_watch_point(unit_, limit) == ESP_OK && pcnt_unit_enable(unit_) == ESP_OK &&
           pcnt_unit_clear_count(unit_) == ESP_OK && pcnt_unit_start(unit_) == ESP_OK;
}

void PulseSource::poll(std::uint64_t now_ms) {
    constexpr std::uint64_t period_ms = 1000;
    look_at_clock(now_ms);
    int count = 0;
    if (unit_ == nullptr || (has_begun_ && now_ms_ - since_ms_ < period_ms) ||
        pcnt_unit_get_count(unit_, &count) != ESP_OK) {
        return;
    }
    if (has_begun_) {
        const auto pulses = static_cast<unsigned>(count) - static_cast<unsigned>(last_count_);
        const std::uint64_t passed_ms = now_ms_ - since_ms_;
        const bool is_too_much = pulses >= 0xFFFF || passed_ms > 0xFFFF;
        const unsigned told = is_too_much ? 0xFFFF : pulses;
        const auto told_ms = static_cast<unsigned>(is_too_much ? period_ms : passed_ms);
        std::array<std::uint8_t, 6> frame = {0x50, static_cast<std::uint8_t>(told >> 8), static_cast<std::uint8_t>(told),
                                             static_cast<std::uint8_t>(told_ms >> 8), static_cast<std::uint8_t>(told_ms)};
        frame[5] = crc8({frame.data(), 5});
        keep({frame.data(), frame.size()});
    }
    has_begun_ = true;
    last_count_ = count;
    since_ms_ = now_ms_;
}

}  // namespace ct::esp32
