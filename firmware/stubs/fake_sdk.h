// What stands behind the declarations on a PC, in a test's hands.
#pragma once

#include <sys/time.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "driver/uart.h"
#include "esp_ota_ops.h"
#include "esp_system.h"
#include "mqtt_client.h"

namespace fake {

using Buffer = std::vector<std::uint8_t>;

struct Partition {
    esp_partition_t entry = {};
    Buffer bytes;
    unsigned erasures = 0;
    esp_ota_img_states_t state = ESP_OTA_IMG_UNDEFINED;
};

struct Uart {
    std::deque<std::uint8_t> to_chip;
    std::vector<Buffer> from_chip;                       // what was written, call by call
    std::function<Buffer(const Buffer&)> answer;         // of the device, at once; may be empty
    uart_mode_t mode = UART_MODE_UART;
};

struct I2c {
    bool answers = true;
    std::vector<Buffer> written;
    Buffer to_read;
    unsigned resets = 0;
};

struct Spi {
    std::vector<Buffer> written;
    std::function<Buffer(const Buffer&)> answer;
};

struct Message {
    std::string topic;
    std::string body;
    int id = 0;
    bool is_retained = false;
};

// Of esp-mqtt: the client that there is, what it was told, and what it says.
struct Mqtt {
    bool is_there = false;
    bool is_started = false;
    unsigned clients = 0;
    bool accepts = true;  // what is published
    std::string host, user, password, will_topic, will, ca;
    std::uint32_t port = 0;
    int will_qos = 0, keepalive = 0;
    bool reconnects_itself = true;
    std::vector<Message> published;
    std::vector<std::string> subscribed;
    int last_id = 0;
    esp_event_handler_t handler = nullptr;
    void* argument = nullptr;

    void say(esp_mqtt_event_id_t what, int id = 0);
    void deliver(std::string topic, std::string payload, bool is_retained = false, int total = -1);
};

struct Http {
    bool connects = true;
    int status = 200;
    std::string body;
    bool is_whole = true;
    std::size_t at = 0;
    std::string url, user, password, range, ca;
    bool has_redirects = true;
};

// Everything, as a chip that has just been powered.
struct Sdk {
    std::recursive_mutex mutex;
    std::map<std::string, Partition> partitions;
    std::string running = "app0", boots = "app0";
    std::map<std::string, Buffer> values;
    bool nvs_opens = true, nvs_writes = true;
    std::map<int, Uart> uarts;
    I2c i2c;
    Spi spi;
    int pulses = 0;
    Mqtt mqtt;
    Http http;
    bool has_network = true;
    esp_reset_reason_t reset_reason = ESP_RST_POWERON;
    std::uint32_t last_random = 0;
    std::int64_t now_us = 0;
    bool is_live = false;  // time passes by itself, and tasks are threads
    std::deque<char> typed;
    std::string printed;
    std::function<void()> restart;
    void (*on_time)(timeval*) = nullptr;

    void add_partition(const char* label, std::uint32_t address, std::uint32_t size);
};

Sdk& sdk();
// A new chip; what handles point to is gone.
void power_on();

}  // namespace fake
