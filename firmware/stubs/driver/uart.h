#pragma once

#include "esp_err.h"
#include "freertos/FreeRTOS.h"

enum uart_port_t : int { UART_NUM_0, UART_NUM_1, UART_NUM_2 };
enum uart_word_length_t { UART_DATA_8_BITS = 3 };
enum uart_parity_t { UART_PARITY_DISABLE };
enum uart_stop_bits_t { UART_STOP_BITS_1 = 1 };
enum uart_hw_flowcontrol_t { UART_HW_FLOWCTRL_DISABLE };
enum uart_sclk_t { UART_SCLK_DEFAULT };
enum uart_mode_t { UART_MODE_UART, UART_MODE_RS485_HALF_DUPLEX };

constexpr int UART_PIN_NO_CHANGE = -1;

struct uart_config_t {
    int baud_rate;
    uart_word_length_t data_bits;
    uart_parity_t parity;
    uart_stop_bits_t stop_bits;
    uart_hw_flowcontrol_t flow_ctrl;
    uart_sclk_t source_clk;
};

using QueueHandle_t = struct QueueDefinition*;

extern "C" {
esp_err_t uart_driver_install(uart_port_t port, int rx_buffer, int tx_buffer, int queue_size, QueueHandle_t* queue,
                              int interrupt_flags);
esp_err_t uart_param_config(uart_port_t port, const uart_config_t* config);
esp_err_t uart_set_pin(uart_port_t port, int tx, int rx, int rts, int cts);
esp_err_t uart_set_mode(uart_port_t port, uart_mode_t mode);
int uart_write_bytes(uart_port_t port, const void* from, std::size_t size);
int uart_read_bytes(uart_port_t port, void* to, std::uint32_t capacity, TickType_t ticks_to_wait);
esp_err_t uart_flush_input(uart_port_t port);
}
