#pragma once

#include <cstddef>
#include <cstdint>

using TickType_t = std::uint32_t;
using BaseType_t = int;
using UBaseType_t = unsigned;

constexpr BaseType_t pdFALSE = 0;
constexpr BaseType_t pdTRUE = 1;
constexpr BaseType_t pdPASS = 1;
constexpr TickType_t portMAX_DELAY = 0xffffffffU;
constexpr TickType_t pdMS_TO_TICKS(std::uint32_t ms) { return ms; }  // Arduino's build has a tick each ms
