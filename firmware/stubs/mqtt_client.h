#pragma once

#include "esp_event.h"

using esp_mqtt_client_handle_t = struct esp_mqtt_client*;

enum esp_mqtt_event_id_t {
    MQTT_EVENT_ANY = -1,
    MQTT_EVENT_ERROR = 0,
    MQTT_EVENT_CONNECTED,
    MQTT_EVENT_DISCONNECTED,
    MQTT_EVENT_SUBSCRIBED,
    MQTT_EVENT_UNSUBSCRIBED,
    MQTT_EVENT_PUBLISHED,
    MQTT_EVENT_DATA,
};

enum esp_mqtt_transport_t { MQTT_TRANSPORT_UNKNOWN = 0, MQTT_TRANSPORT_OVER_TCP, MQTT_TRANSPORT_OVER_SSL };
enum esp_mqtt_protocol_ver_t { MQTT_PROTOCOL_UNDEFINED = 0, MQTT_PROTOCOL_V_3_1, MQTT_PROTOCOL_V_3_1_1 };

struct esp_mqtt_event_t {
    esp_mqtt_event_id_t event_id;
    esp_mqtt_client_handle_t client;
    char* data;
    int data_len;
    int total_data_len;
    int current_data_offset;
    char* topic;
    int topic_len;
    int msg_id;
    bool retain;
};
using esp_mqtt_event_handle_t = esp_mqtt_event_t*;

struct esp_mqtt_client_config_t {
    struct broker_t {
        struct address_t {
            const char* uri;
            const char* hostname;
            esp_mqtt_transport_t transport;
            const char* path;
            std::uint32_t port;
        } address;
        struct verification_t {
            const char* certificate;  // PEM with a zero at its end while the length is 0; not copied
            std::size_t certificate_len;
            bool skip_cert_common_name_check;
        } verification;
    } broker;
    struct credentials_t {
        const char* username;
        const char* client_id;
        struct authentication_t {
            const char* password;
            const char* certificate;
            std::size_t certificate_len;
            const char* key;
            std::size_t key_len;
        } authentication;
    } credentials;
    struct session_t {
        struct last_will_t {
            const char* topic;
            const char* msg;
            int msg_len;
            int qos;
            int retain;
        } last_will;
        bool disable_clean_session;
        int keepalive;
        esp_mqtt_protocol_ver_t protocol_ver;
        int message_retransmit_timeout;  // ms
    } session;
    struct network_t {
        int timeout_ms;
        bool disable_auto_reconnect;
    } network;
    struct task_t {
        int priority;
        int stack_size;
    } task;
    struct buffer_t {
        int size;
        int out_size;
    } buffer;
    struct outbox_config_t {
        std::uint64_t limit;
    } outbox;
};

extern "C" {
esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t* config);
esp_err_t esp_mqtt_client_register_event(esp_mqtt_client_handle_t client, esp_mqtt_event_id_t event,
                                         esp_event_handler_t handler, void* argument);
esp_err_t esp_mqtt_client_start(esp_mqtt_client_handle_t client);
esp_err_t esp_mqtt_client_destroy(esp_mqtt_client_handle_t client);
// Through a macro esp_mqtt_client_subscribe in C.
int esp_mqtt_client_subscribe_single(esp_mqtt_client_handle_t client, const char* topic, int qos);
// May block for as long as the network's timeout. Above 0, -1 where it failed, -2 where the outbox is full.
int esp_mqtt_client_publish(esp_mqtt_client_handle_t client, const char* topic, const char* data, int len, int qos,
                            int retain);
}
