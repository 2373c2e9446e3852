#include "machine.h"

#include <WiFi.h>
#include <driver/gpio.h>
#include <esp_random.h>
#include <esp_sntp.h>
#include <esp_system.h>
#include <esp_task_wdt.h>

#include "board.h"

namespace ct::esp32 {

namespace {

SntpClock* the_clock = nullptr;  // the SDK's callback has no argument of its own

}  // namespace

void SntpClock::begin() {
    constexpr std::uint32_t interval_ms = 3600 * 1000;
    the_clock = this;
    esp_sntp_setoperatingmode(ESP_SNTP_OPMODE_POLL);
    std::uint8_t index = 0;
    for (const char* const server : board::time_servers) {
        esp_sntp_setservername(index++, server);
    }
    sntp_set_sync_interval(interval_ms);
    sntp_set_time_sync_notification_cb([](timeval* time) {
        the_clock->take(static_cast<std::uint64_t>(time->tv_sec) * 1000 + static_cast<std::uint64_t>(time->tv_usec) / 1000,
                        Timer().ms());
    });
    esp_sntp_init();
}

void SntpClock::take(std::uint64_t utc_ms, std::uint64_t uptime_ms) {
    mutex_.take();
    is_new_ = utc_ms > uptime_ms;
    boot_utc_ms_ = utc_ms - uptime_ms;
    mutex_.give();
}

std::uint64_t SntpClock::utc_ms() {
    mutex_.take();
    const std::uint64_t now_ms = is_new_ ? boot_utc_ms_ + Timer().ms() : 0;
    is_new_ = false;
    mutex_.give();
    return now_ms;
}

std::uint32_t ChipRandom::next() { return esp_random(); }

void Pins::begin() {
    for (const int pin : {board::led, board::buzzer}) {
        gpio_reset_pin(static_cast<gpio_num_t>(pin));
        gpio_set_direction(static_cast<gpio_num_t>(pin), GPIO_MODE_OUTPUT);
        gpio_set_level(static_cast<gpio_num_t>(pin), 0);
    }
    gpio_set_direction(static_cast<gpio_num_t>(board::button), GPIO_MODE_INPUT);
    gpio_set_pull_mode(static_cast<gpio_num_t>(board::button), GPIO_PULLUP_ONLY);
}

void Pins::led(bool is_on) { gpio_set_level(static_cast<gpio_num_t>(board::led), is_on ? 1 : 0); }
void Pins::buzzer(bool is_on) { gpio_set_level(static_cast<gpio_num_t>(board::buzzer), is_on ? 1 : 0); }
bool Pins::is_button_held() { return gpio_get_level(static_cast<gpio_num_t>(board::button)) == 0; }

hal::MachineHealth Chip::health() {
    constexpr std::uint32_t kib = 1024;
    hal::MachineHealth health;
    health.rssi_dbm = WiFi.status() == WL_CONNECTED ? WiFi.RSSI() : std::int8_t{0};
    health.heap_free_kib = static_cast<std::uint16_t>(esp_get_free_heap_size() / kib);
    return health;
}

hal::ResetCause Chip::reset_cause() {
    switch (esp_reset_reason()) {
        case ESP_RST_SW: return is_new_program_ ? hal::ResetCause::ota : hal::ResetCause::software;
        case ESP_RST_PANIC: return hal::ResetCause::panic;
        case ESP_RST_INT_WDT:
        case ESP_RST_TASK_WDT:
        case ESP_RST_WDT: return hal::ResetCause::watchdog;
        case ESP_RST_BROWNOUT: return hal::ResetCause::brownout;
        default: return hal::ResetCause::poweron;
    }
}

void Chip::reboot_if_asked() {
    if (is_reboot_asked_) {
        esp_restart();
    }
}

void watchdog::begin() {
    esp_task_wdt_config_t config = {};
    config.timeout_ms = 60000;
    config.idle_core_mask = 0;  // an idle task that is kept busy is no reason to start anew
    config.trigger_panic = true;
    if (esp_task_wdt_reconfigure(&config) == ESP_ERR_INVALID_STATE) {
        esp_task_wdt_init(&config);  // Arduino's start has not begun it
    }
}

void watchdog::watch_this_task() { esp_task_wdt_add(nullptr); }
void watchdog::is_alive() { esp_task_wdt_reset(); }

}  // namespace ct::esp32
