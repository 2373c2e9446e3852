#pragma once

#include "freertos/FreeRTOS.h"

using MessageBufferHandle_t = struct StreamBufferDef_t*;

// Macros in the SDK. A message takes 4 bytes beyond its own.
MessageBufferHandle_t xMessageBufferCreate(std::size_t size);
std::size_t xMessageBufferSend(MessageBufferHandle_t buffer, const void* from, std::size_t size,
                               TickType_t ticks_to_wait);
std::size_t xMessageBufferReceive(MessageBufferHandle_t buffer, void* to, std::size_t capacity,
                                  TickType_t ticks_to_wait);
