#pragma once

#include "freertos/FreeRTOS.h"

using SemaphoreHandle_t = struct QueueDefinition*;

// Macros in the SDK.
SemaphoreHandle_t xSemaphoreCreateMutex();
BaseType_t xSemaphoreTake(SemaphoreHandle_t semaphore, TickType_t ticks_to_wait);
BaseType_t xSemaphoreGive(SemaphoreHandle_t semaphore);
