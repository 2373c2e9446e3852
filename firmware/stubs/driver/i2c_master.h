#pragma once

#include "driver/gpio.h"

using i2c_master_bus_handle_t = struct i2c_master_bus_t*;
using i2c_master_dev_handle_t = struct i2c_master_dev_t*;
enum i2c_addr_bit_len_t { I2C_ADDR_BIT_LEN_7 };
enum i2c_clock_source_t { I2C_CLK_SRC_DEFAULT };

struct i2c_master_bus_config_t {
    int i2c_port;
    gpio_num_t sda_io_num;
    gpio_num_t scl_io_num;
    i2c_clock_source_t clk_source;
    std::uint8_t glitch_ignore_cnt;
    struct {
        std::uint32_t enable_internal_pullup : 1;
    } flags;
};

struct i2c_device_config_t {
    i2c_addr_bit_len_t dev_addr_length;
    std::uint16_t device_address;
    std::uint32_t scl_speed_hz;
};

extern "C" {
esp_err_t i2c_new_master_bus(const i2c_master_bus_config_t* config, i2c_master_bus_handle_t* bus);
esp_err_t i2c_master_bus_add_device(i2c_master_bus_handle_t bus, const i2c_device_config_t* config,
                                    i2c_master_dev_handle_t* device);
esp_err_t i2c_master_bus_reset(i2c_master_bus_handle_t bus);
esp_err_t i2c_master_transmit(i2c_master_dev_handle_t device, const std::uint8_t* from, std::size_t size,
                              int timeout_ms);
esp_err_t i2c_master_receive(i2c_master_dev_handle_t device, std::uint8_t* to, std::size_t size, int timeout_ms);
}
