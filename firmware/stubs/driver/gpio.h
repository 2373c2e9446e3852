#pragma once

#include "esp_err.h"

enum gpio_num_t : int { GPIO_NUM_NC = -1, GPIO_NUM_0 = 0, GPIO_NUM_MAX = 40 };
enum gpio_mode_t { GPIO_MODE_INPUT, GPIO_MODE_OUTPUT };
enum gpio_pull_mode_t { GPIO_PULLUP_ONLY, GPIO_FLOATING };

extern "C" {
esp_err_t gpio_reset_pin(gpio_num_t pin);
esp_err_t gpio_set_direction(gpio_num_t pin, gpio_mode_t mode);
esp_err_t gpio_set_pull_mode(gpio_num_t pin, gpio_pull_mode_t pull);
esp_err_t gpio_set_level(gpio_num_t pin, std::uint32_t level);
int gpio_get_level(gpio_num_t pin);
}
