#pragma once

#include "esp_err.h"

using esp_event_base_t = const char*;
using esp_event_handler_t = void (*)(void* argument, esp_event_base_t base, std::int32_t id, void* data);
