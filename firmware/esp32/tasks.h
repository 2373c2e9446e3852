// The lock and the clock of FreeRTOS for two tasks.
#pragma once

#include <esp_timer.h>
#include <freertos/FreeRTOS.h>
#include <freertos/semphr.h>

#include "ct/hal/tasks.h"

namespace ct::esp32 {

// A mutex of FreeRTOS lends the priority of whoever waits to whoever has it; a binary semaphore would not.
class Mutex final : public hal::Lock {
public:
    Mutex() : handle_(xSemaphoreCreateMutex()) {}
    void take() override { xSemaphoreTake(handle_, portMAX_DELAY); }
    void give() override { xSemaphoreGive(handle_); }
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

private:
    SemaphoreHandle_t handle_;
};

class Timer final : public hal::Uptime {
public:
    std::uint64_t ms() override { return static_cast<std::uint64_t>(esp_timer_get_time()) / 1000; }
};

}  // namespace ct::esp32
