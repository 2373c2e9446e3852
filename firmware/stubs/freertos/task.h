#pragma once

#include "freertos/FreeRTOS.h"

using TaskHandle_t = struct tskTaskControlBlock*;
using TaskFunction_t = void (*)(void*);

extern "C" {
BaseType_t xTaskCreatePinnedToCore(TaskFunction_t code, const char* name, std::uint32_t stack_bytes, void* parameters,
                                   UBaseType_t priority, TaskHandle_t* created, BaseType_t core);
TickType_t xTaskGetTickCount();
BaseType_t xTaskDelayUntil(TickType_t* previous_wake, TickType_t increment);
void vTaskDelay(TickType_t ticks);
}
