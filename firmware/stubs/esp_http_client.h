#pragma once

#include "esp_err.h"

using esp_http_client_handle_t = struct esp_http_client*;

enum esp_http_client_auth_type_t { HTTP_AUTH_TYPE_NONE = 0, HTTP_AUTH_TYPE_BASIC };

struct esp_http_client_config_t {
    const char* url;
    const char* username;
    const char* password;
    esp_http_client_auth_type_t auth_type;
    const char* cert_pem;
    int timeout_ms;
    bool disable_auto_redirect;
};

extern "C" {
esp_http_client_handle_t esp_http_client_init(const esp_http_client_config_t* config);
esp_err_t esp_http_client_set_header(esp_http_client_handle_t client, const char* key, const char* value);
esp_err_t esp_http_client_open(esp_http_client_handle_t client, int write_len);
std::int64_t esp_http_client_fetch_headers(esp_http_client_handle_t client);
int esp_http_client_get_status_code(esp_http_client_handle_t client);
int esp_http_client_read(esp_http_client_handle_t client, char* buffer, int len);
bool esp_http_client_is_complete_data_received(esp_http_client_handle_t client);
esp_err_t esp_http_client_cleanup(esp_http_client_handle_t client);
}
