#include "fake_sdk.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "Arduino.h"
#include "WebServer.h"
#include "WiFi.h"
#include "driver/gpio.h"
#include "driver/i2c_master.h"
#include "driver/pulse_cnt.h"
#include "driver/spi_master.h"
#include "esp_http_client.h"
#include "esp_mac.h"
#include "esp_random.h"
#include "esp_sntp.h"
#include "esp_task_wdt.h"
#include "esp_timer.h"
#include "freertos/message_buffer.h"
#include "freertos/semphr.h"
#include "freertos/task.h"
#include "mbedtls/pk.h"
#include "mbedtls/sha256.h"
#include "nvs.h"

namespace fake {

namespace {

std::unique_ptr<Sdk> the_sdk = std::make_unique<Sdk>();

Partition* find(const esp_partition_t* entry) {
    for (auto& [label, partition] : sdk().partitions) {
        if (&partition.entry == entry) {
            return &partition;
        }
    }
    return nullptr;
}

using Lock = std::lock_guard<std::recursive_mutex>;

Buffer buffer_of(const void* from, std::size_t size) {
    const auto* const bytes = static_cast<const std::uint8_t*>(from);
    return {bytes, bytes + size};
}

const char* or_empty(const char* text) { return text == nullptr ? "" : text; }

}  // namespace

Sdk& sdk() { return *the_sdk; }
void power_on() { the_sdk = std::make_unique<Sdk>(); }

void Sdk::add_partition(const char* label, std::uint32_t address, std::uint32_t size) {
    Partition& partition = partitions[label];
    partition.entry.address = address;
    partition.entry.size = size;
    partition.entry.erase_size = 4096;
    std::strncpy(partition.entry.label, label, sizeof partition.entry.label - 1);
    partition.bytes.assign(size, 0xFF);
}

void Mqtt::say(esp_mqtt_event_id_t what, int id) {
    esp_mqtt_event_t event = {};
    event.event_id = what;
    event.msg_id = id;
    handler(argument, "", what, &event);
}

void Mqtt::deliver(std::string topic, std::string payload, bool is_retained, int total) {
    esp_mqtt_event_t event = {};
    event.event_id = MQTT_EVENT_DATA;
    event.topic = topic.data();
    event.topic_len = static_cast<int>(topic.size());
    event.data = payload.data();
    event.data_len = static_cast<int>(payload.size());
    event.total_data_len = total < 0 ? event.data_len : total;
    event.retain = is_retained;
    handler(argument, "", MQTT_EVENT_DATA, &event);
}

}  // namespace fake

using fake::Buffer;
using fake::Lock;
using fake::sdk;

// --- flash: erasing sets bits, writing clears them

const esp_partition_t* esp_partition_find_first(esp_partition_type_t, esp_partition_subtype_t, const char* label) {
    const Lock lock(sdk().mutex);
    const auto found = sdk().partitions.find(label);
    return found == sdk().partitions.end() ? nullptr : &found->second.entry;
}

esp_err_t esp_partition_read(const esp_partition_t* partition, std::size_t offset, void* to, std::size_t size) {
    const Lock lock(sdk().mutex);
    const fake::Partition* const found = fake::find(partition);
    if (found == nullptr || offset + size > found->bytes.size()) {
        return ESP_ERR_INVALID_ARG;
    }
    std::memcpy(to, found->bytes.data() + offset, size);
    return ESP_OK;
}

esp_err_t esp_partition_write(const esp_partition_t* partition, std::size_t offset, const void* from, std::size_t size) {
    const Lock lock(sdk().mutex);
    fake::Partition* const found = fake::find(partition);
    if (found == nullptr || offset + size > found->bytes.size()) {
        return ESP_ERR_INVALID_ARG;
    }
    for (std::size_t at = 0; at < size; ++at) {
        std::uint8_t& cell = found->bytes[offset + at];
        cell = static_cast<std::uint8_t>(cell & static_cast<const std::uint8_t*>(from)[at]);
    }
    return ESP_OK;
}

esp_err_t esp_partition_erase_range(const esp_partition_t* partition, std::size_t offset, std::size_t size) {
    const Lock lock(sdk().mutex);
    fake::Partition* const found = fake::find(partition);
    if (found == nullptr || offset % 4096 != 0 || size % 4096 != 0 || offset + size > found->bytes.size()) {
        return ESP_ERR_INVALID_ARG;
    }
    std::memset(found->bytes.data() + offset, 0xFF, size);
    ++found->erasures;
    return ESP_OK;
}

// --- OTA: the boot loader's part is a test's

const esp_partition_t* esp_ota_get_running_partition() { return &sdk().partitions[sdk().running].entry; }

const esp_partition_t* esp_ota_get_next_update_partition(const esp_partition_t*) {
    return &sdk().partitions[sdk().running == "app0" ? "app1" : "app0"].entry;
}

esp_err_t esp_ota_get_state_partition(const esp_partition_t* partition, esp_ota_img_states_t* state) {
    *state = fake::find(partition)->state;
    return ESP_OK;
}

esp_err_t esp_ota_set_boot_partition(const esp_partition_t* partition) {
    sdk().boots = partition->label;
    fake::find(partition)->state = ESP_OTA_IMG_NEW;
    return ESP_OK;
}

esp_err_t esp_ota_mark_app_valid_cancel_rollback() {
    sdk().partitions[sdk().running].state = ESP_OTA_IMG_VALID;
    return ESP_OK;
}

// --- NVS

esp_err_t nvs_open(const char*, nvs_open_mode_t, nvs_handle_t* handle) {
    *handle = 1;
    return sdk().nvs_opens ? ESP_OK : ESP_FAIL;
}

esp_err_t nvs_get_blob(nvs_handle_t, const char* key, void* to, std::size_t* length) {
    const Lock lock(sdk().mutex);
    const auto found = sdk().values.find(key);
    if (found == sdk().values.end()) {
        return ESP_ERR_NVS_NOT_FOUND;
    }
    if (to != nullptr && *length < found->second.size()) {
        return ESP_ERR_NVS_INVALID_LENGTH;
    }
    *length = found->second.size();
    if (to != nullptr) {
        std::memcpy(to, found->second.data(), found->second.size());
    }
    return ESP_OK;
}

esp_err_t nvs_set_blob(nvs_handle_t, const char* key, const void* value, std::size_t length) {
    const Lock lock(sdk().mutex);
    if (!sdk().nvs_writes || std::strlen(key) > 15) {
        return ESP_FAIL;
    }
    sdk().values[key] = fake::buffer_of(value, length);
    return ESP_OK;
}

esp_err_t nvs_erase_key(nvs_handle_t, const char* key) {
    const Lock lock(sdk().mutex);
    return !sdk().nvs_writes ? ESP_FAIL : sdk().values.erase(key) > 0 ? ESP_OK : ESP_ERR_NVS_NOT_FOUND;
}

esp_err_t nvs_commit(nvs_handle_t) { return sdk().nvs_writes ? ESP_OK : ESP_FAIL; }

// --- FreeRTOS

struct QueueDefinition {
    std::mutex mutex;
};

// As on a chip nobody takes these away again.
SemaphoreHandle_t xSemaphoreCreateMutex() {
    static std::deque<QueueDefinition> made;
    const Lock lock(sdk().mutex);
    return &made.emplace_back();
}
BaseType_t xSemaphoreTake(SemaphoreHandle_t semaphore, TickType_t) {
    semaphore->mutex.lock();
    return pdTRUE;
}
BaseType_t xSemaphoreGive(SemaphoreHandle_t semaphore) {
    semaphore->mutex.unlock();
    return pdTRUE;
}

struct StreamBufferDef_t {
    std::mutex mutex;
    std::size_t capacity = 0;
    std::size_t used = 0;
    std::deque<Buffer> messages;
};

MessageBufferHandle_t xMessageBufferCreate(std::size_t size) {
    static std::deque<StreamBufferDef_t> made;
    const Lock lock(sdk().mutex);
    StreamBufferDef_t& buffer = made.emplace_back();
    buffer.capacity = size;
    return &buffer;
}

std::size_t xMessageBufferSend(MessageBufferHandle_t buffer, const void* from, std::size_t size, TickType_t) {
    const std::lock_guard<std::mutex> lock(buffer->mutex);
    if (buffer->used + size + 4 > buffer->capacity) {
        return 0;
    }
    buffer->used += size + 4;
    buffer->messages.push_back(fake::buffer_of(from, size));
    return size;
}

std::size_t xMessageBufferReceive(MessageBufferHandle_t buffer, void* to, std::size_t capacity, TickType_t) {
    const std::lock_guard<std::mutex> lock(buffer->mutex);
    if (buffer->messages.empty() || buffer->messages.front().size() > capacity) {
        return 0;
    }
    const Buffer message = buffer->messages.front();
    buffer->messages.pop_front();
    buffer->used -= message.size() + 4;
    std::memcpy(to, message.data(), message.size());
    return message.size();
}

BaseType_t xTaskCreatePinnedToCore(TaskFunction_t code, const char*, std::uint32_t, void* parameters, UBaseType_t,
                                   TaskHandle_t*, BaseType_t) {
    if (sdk().is_live) {
        std::thread(code, parameters).detach();
    }
    return pdPASS;
}

TickType_t xTaskGetTickCount() { return static_cast<TickType_t>(esp_timer_get_time() / 1000); }

BaseType_t xTaskDelayUntil(TickType_t* previous_wake, TickType_t increment) {
    *previous_wake += increment;
    const TickType_t now = xTaskGetTickCount();
    if (*previous_wake <= now) {
        return pdFALSE;
    }
    vTaskDelay(*previous_wake - now);
    return pdTRUE;
}

void vTaskDelay(TickType_t ticks) {
    if (sdk().is_live) {
        std::this_thread::sleep_for(std::chrono::milliseconds(ticks));
    } else {
        sdk().now_us += std::int64_t{ticks} * 1000;
    }
}

// --- the chip

std::int64_t esp_timer_get_time() {
    static const auto began = std::chrono::steady_clock::now();
    if (!sdk().is_live) {
        return sdk().now_us;
    }
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count();
}

std::uint32_t esp_random() {
    const Lock lock(sdk().mutex);
    return sdk().last_random = sdk().last_random * 1664525U + 1013904223U;
}

esp_reset_reason_t esp_reset_reason() { return sdk().reset_reason; }
std::uint32_t esp_get_free_heap_size() { return 120 * 1024; }

void esp_restart() {
    if (sdk().restart) {
        sdk().restart();
    }
    std::_Exit(0);  // nothing goes on after a restart
}

esp_err_t esp_read_mac(std::uint8_t* mac, esp_mac_type_t) {
    std::memset(mac, 0xA5, 6);
    return ESP_OK;
}

esp_err_t esp_task_wdt_init(const esp_task_wdt_config_t*) { return ESP_OK; }
esp_err_t esp_task_wdt_reconfigure(const esp_task_wdt_config_t*) { return ESP_OK; }
esp_err_t esp_task_wdt_add(TaskHandle_t) { return ESP_OK; }
esp_err_t esp_task_wdt_reset() { return ESP_OK; }

void esp_sntp_setoperatingmode(esp_sntp_operatingmode_t) {}
void esp_sntp_setservername(std::uint8_t, const char*) {}
void esp_sntp_init() {}
void sntp_set_sync_interval(std::uint32_t) {}
void sntp_set_time_sync_notification_cb(sntp_sync_time_cb_t callback) { sdk().on_time = callback; }

esp_err_t gpio_reset_pin(gpio_num_t) { return ESP_OK; }
esp_err_t gpio_set_direction(gpio_num_t, gpio_mode_t) { return ESP_OK; }
esp_err_t gpio_set_pull_mode(gpio_num_t, gpio_pull_mode_t) { return ESP_OK; }
esp_err_t gpio_set_level(gpio_num_t, std::uint32_t) { return ESP_OK; }
int gpio_get_level(gpio_num_t) { return 1; }

// --- wires

esp_err_t uart_driver_install(uart_port_t, int, int, int, QueueHandle_t*, int) { return ESP_OK; }
esp_err_t uart_param_config(uart_port_t, const uart_config_t*) { return ESP_OK; }
esp_err_t uart_set_pin(uart_port_t, int, int, int, int) { return ESP_OK; }
esp_err_t uart_set_mode(uart_port_t port, uart_mode_t mode) {
    sdk().uarts[port].mode = mode;
    return ESP_OK;
}

int uart_write_bytes(uart_port_t port, const void* from, std::size_t size) {
    const Lock lock(sdk().mutex);
    fake::Uart& uart = sdk().uarts[port];
    uart.from_chip.push_back(fake::buffer_of(from, size));
    if (uart.answer) {
        const Buffer answer = uart.answer(uart.from_chip.back());
        uart.to_chip.insert(uart.to_chip.end(), answer.begin(), answer.end());
    }
    return static_cast<int>(size);
}

int uart_read_bytes(uart_port_t port, void* to, std::uint32_t capacity, TickType_t) {
    const Lock lock(sdk().mutex);
    std::deque<std::uint8_t>& from = sdk().uarts[port].to_chip;
    int got = 0;
    for (auto* byte = static_cast<std::uint8_t*>(to); !from.empty() && got < static_cast<int>(capacity); ++got) {
        *byte++ = from.front();
        from.pop_front();
    }
    return got;
}

esp_err_t uart_flush_input(uart_port_t port) {
    const Lock lock(sdk().mutex);
    sdk().uarts[port].to_chip.clear();
    return ESP_OK;
}

esp_err_t i2c_new_master_bus(const i2c_master_bus_config_t*, i2c_master_bus_handle_t* bus) {
    *bus = reinterpret_cast<i2c_master_bus_handle_t>(&sdk().i2c);
    return ESP_OK;
}
esp_err_t i2c_master_bus_add_device(i2c_master_bus_handle_t, const i2c_device_config_t*, i2c_master_dev_handle_t* device) {
    *device = reinterpret_cast<i2c_master_dev_handle_t>(&sdk().i2c);
    return ESP_OK;
}
esp_err_t i2c_master_bus_reset(i2c_master_bus_handle_t) {
    ++sdk().i2c.resets;
    return ESP_OK;
}
esp_err_t i2c_master_transmit(i2c_master_dev_handle_t, const std::uint8_t* from, std::size_t size, int) {
    const Lock lock(sdk().mutex);
    if (sdk().i2c.answers) {
        sdk().i2c.written.push_back(fake::buffer_of(from, size));
    }
    return sdk().i2c.answers ? ESP_OK : ESP_ERR_TIMEOUT;
}
esp_err_t i2c_master_receive(i2c_master_dev_handle_t, std::uint8_t* to, std::size_t size, int) {
    const Lock lock(sdk().mutex);
    if (!sdk().i2c.answers || sdk().i2c.to_read.size() != size) {
        return ESP_ERR_TIMEOUT;
    }
    std::memcpy(to, sdk().i2c.to_read.data(), size);
    return ESP_OK;
}

esp_err_t spi_bus_initialize(spi_host_device_t, const spi_bus_config_t*, spi_common_dma_t) { return ESP_OK; }
esp_err_t spi_bus_add_device(spi_host_device_t, const spi_device_interface_config_t*, spi_device_handle_t* device) {
    *device = reinterpret_cast<spi_device_handle_t>(&sdk().spi);
    return ESP_OK;
}
esp_err_t spi_device_polling_transmit(spi_device_handle_t, spi_transaction_t* transaction) {
    const Lock lock(sdk().mutex);
    const std::size_t size = transaction->length / 8;
    sdk().spi.written.push_back(fake::buffer_of(transaction->tx_buffer, size));
    Buffer answer = sdk().spi.answer ? sdk().spi.answer(sdk().spi.written.back()) : Buffer();
    answer.resize(size);
    std::memcpy(transaction->rx_buffer, answer.data(), size);
    return ESP_OK;
}

esp_err_t pcnt_new_unit(const pcnt_unit_config_t*, pcnt_unit_handle_t* unit) {
    *unit = reinterpret_cast<pcnt_unit_handle_t>(&sdk().pulses);
    return ESP_OK;
}
esp_err_t pcnt_unit_set_glitch_filter(pcnt_unit_handle_t, const pcnt_glitch_filter_config_t*) { return ESP_OK; }
esp_err_t pcnt_new_channel(pcnt_unit_handle_t, const pcnt_chan_config_t*, pcnt_channel_handle_t*) { return ESP_OK; }
esp_err_t pcnt_channel_set_edge_action(pcnt_channel_handle_t, pcnt_channel_edge_action_t, pcnt_channel_edge_action_t) {
    return ESP_OK;
}
esp_err_t pcnt_unit_add_watch_point(pcnt_unit_handle_t, int) { return ESP_OK; }
esp_err_t pcnt_unit_enable(pcnt_unit_handle_t) { return ESP_OK; }
esp_err_t pcnt_unit_clear_count(pcnt_unit_handle_t) {
    sdk().pulses = 0;
    return ESP_OK;
}
esp_err_t pcnt_unit_start(pcnt_unit_handle_t) { return ESP_OK; }
esp_err_t pcnt_unit_get_count(pcnt_unit_handle_t, int* value) {
    *value = sdk().pulses;
    return ESP_OK;
}

// --- MQTT

esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t* config) {
    const Lock lock(sdk().mutex);
    fake::Mqtt& mqtt = sdk().mqtt;
    mqtt.is_there = true;
    mqtt.is_started = false;
    ++mqtt.clients;
    mqtt.host = fake::or_empty(config->broker.address.hostname);
    mqtt.port = config->broker.address.port;
    mqtt.ca = fake::or_empty(config->broker.verification.certificate);
    mqtt.user = fake::or_empty(config->credentials.username);
    mqtt.password = fake::or_empty(config->credentials.authentication.password);
    mqtt.will_topic = fake::or_empty(config->session.last_will.topic);
    mqtt.will.assign(config->session.last_will.msg, static_cast<std::size_t>(config->session.last_will.msg_len));
    mqtt.will_qos = config->session.last_will.qos;
    mqtt.keepalive = config->session.keepalive;
    mqtt.reconnects_itself = !config->network.disable_auto_reconnect;
    mqtt.published.clear();
    mqtt.subscribed.clear();
    return reinterpret_cast<esp_mqtt_client_handle_t>(&mqtt);
}

esp_err_t esp_mqtt_client_register_event(esp_mqtt_client_handle_t, esp_mqtt_event_id_t, esp_event_handler_t handler,
                                         void* argument) {
    sdk().mqtt.handler = handler;
    sdk().mqtt.argument = argument;
    return ESP_OK;
}

esp_err_t esp_mqtt_client_start(esp_mqtt_client_handle_t) {
    const Lock lock(sdk().mutex);
    sdk().mqtt.is_started = true;
    return ESP_OK;
}

esp_err_t esp_mqtt_client_destroy(esp_mqtt_client_handle_t) {
    const Lock lock(sdk().mutex);
    sdk().mqtt.is_there = sdk().mqtt.is_started = false;
    return ESP_OK;
}

int esp_mqtt_client_subscribe_single(esp_mqtt_client_handle_t, const char* topic, int) {
    const Lock lock(sdk().mutex);
    sdk().mqtt.subscribed.emplace_back(topic);
    return sdk().mqtt.accepts ? ++sdk().mqtt.last_id : -1;
}

int esp_mqtt_client_publish(esp_mqtt_client_handle_t, const char* topic, const char* data, int len, int, int retain) {
    const Lock lock(sdk().mutex);
    fake::Mqtt& mqtt = sdk().mqtt;
    if (!mqtt.accepts) {
        return -1;
    }
    mqtt.published.push_back({topic, std::string(data, static_cast<std::size_t>(len)), ++mqtt.last_id, retain != 0});
    return mqtt.last_id;
}

// --- HTTP

esp_http_client_handle_t esp_http_client_init(const esp_http_client_config_t* config) {
    fake::Http& http = sdk().http;
    http.url = fake::or_empty(config->url);
    http.user = fake::or_empty(config->username);
    http.password = fake::or_empty(config->password);
    http.ca = fake::or_empty(config->cert_pem);
    http.has_redirects = !config->disable_auto_redirect;
    http.range.clear();
    http.at = 0;
    return reinterpret_cast<esp_http_client_handle_t>(&http);
}
esp_err_t esp_http_client_set_header(esp_http_client_handle_t, const char* key, const char* value) {
    sdk().http.range = std::string(key) + ": " + value;
    return ESP_OK;
}
esp_err_t esp_http_client_open(esp_http_client_handle_t, int) { return sdk().http.connects ? ESP_OK : ESP_FAIL; }
std::int64_t esp_http_client_fetch_headers(esp_http_client_handle_t) {
    return static_cast<std::int64_t>(sdk().http.body.size());
}
int esp_http_client_get_status_code(esp_http_client_handle_t) { return sdk().http.status; }
int esp_http_client_read(esp_http_client_handle_t, char* buffer, int len) {
    fake::Http& http = sdk().http;
    const std::size_t got = std::min(static_cast<std::size_t>(len), http.body.size() - http.at);
    std::memcpy(buffer, http.body.data() + http.at, got);
    http.at += got;
    return static_cast<int>(got);
}
bool esp_http_client_is_complete_data_received(esp_http_client_handle_t) { return sdk().http.is_whole; }
esp_err_t esp_http_client_cleanup(esp_http_client_handle_t) { return ESP_OK; }

// --- mbedtls: not tested here (the same work is done by OpenSSL on a PC), only linked

void mbedtls_sha256_init(mbedtls_sha256_context*) {}
void mbedtls_sha256_free(mbedtls_sha256_context*) {}
int mbedtls_sha256_starts(mbedtls_sha256_context*, int) { return -1; }
int mbedtls_sha256_update(mbedtls_sha256_context*, const unsigned char*, std::size_t) { return -1; }
int mbedtls_sha256_finish(mbedtls_sha256_context*, unsigned char*) { return -1; }
int mbedtls_sha256(const unsigned char*, std::size_t, unsigned char*, int) { return -1; }
void mbedtls_pk_init(mbedtls_pk_context*) {}
void mbedtls_pk_free(mbedtls_pk_context*) {}
int mbedtls_pk_parse_public_key(mbedtls_pk_context*, const unsigned char*, std::size_t) { return -1; }
int mbedtls_pk_can_do(const mbedtls_pk_context*, mbedtls_pk_type_t) { return 0; }
std::size_t mbedtls_pk_get_bitlen(const mbedtls_pk_context*) { return 0; }
int mbedtls_pk_verify(mbedtls_pk_context*, mbedtls_md_type_t, const unsigned char*, std::size_t, const unsigned char*,
                      std::size_t) {
    return -1;
}

// --- Arduino

String::String(const char* text) : text_(strdup(text)) {}
String::String(const String& other) : text_(strdup(other.text_)) {}
String& String::operator=(const String& other) {
    if (this != &other) {
        std::free(text_);
        text_ = strdup(other.text_);
    }
    return *this;
}
String::~String() { std::free(text_); }
const char* String::c_str() const { return text_; }
unsigned String::length() const { return static_cast<unsigned>(std::strlen(text_)); }

HardwareSerial Serial;
void HardwareSerial::begin(unsigned long) {}
std::size_t HardwareSerial::setRxBufferSize(std::size_t size) { return size; }
int HardwareSerial::available() {
    const Lock lock(sdk().mutex);
    return static_cast<int>(sdk().typed.size());
}
int HardwareSerial::read() {
    const Lock lock(sdk().mutex);
    const char letter = sdk().typed.front();
    sdk().typed.pop_front();
    return letter;
}
std::size_t HardwareSerial::write(const std::uint8_t* from, std::size_t size) {
    const Lock lock(sdk().mutex);
    sdk().printed.append(reinterpret_cast<const char*>(from), size);
    return size;
}
std::size_t HardwareSerial::print(const char* text) {
    return write(reinterpret_cast<const std::uint8_t*>(text), std::strlen(text));
}
std::size_t HardwareSerial::println(const char* text) { return print(text) + print("\r\n"); }

WiFiClass WiFi;
void WiFiClass::persistent(bool) {}
bool WiFiClass::setAutoReconnect(bool) { return true; }
bool WiFiClass::setHostname(const char*) { return true; }
bool WiFiClass::mode(wifi_mode_t) { return true; }
wl_status_t WiFiClass::begin(const char*, const char*) { return WL_DISCONNECTED; }
bool WiFiClass::disconnect(bool) { return true; }
wl_status_t WiFiClass::status() { return sdk().has_network ? WL_CONNECTED : WL_DISCONNECTED; }
std::int8_t WiFiClass::RSSI() { return -71; }
bool WiFiClass::softAP(const char*, const char*) { return true; }
bool WiFiClass::setSleep(bool) { return true; }

WebServer::WebServer(int) {}
void WebServer::on(const char*, HTTPMethod, std::function<void()>) {}
void WebServer::onNotFound(std::function<void()>) {}
void WebServer::begin() {}
void WebServer::handleClient() {}
bool WebServer::hasArg(const char*) { return false; }
String WebServer::arg(const char*) { return ""; }
void WebServer::sendHeader(const char*, const char*) {}
void WebServer::send(int, const char*, const char*) {}
