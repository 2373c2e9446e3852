// What is soldered where, and which sensors there are. The one place to change for another board.
//
// Pins 6-11 are the flash's; 0, 2, 5, 12 and 15 decide how an ESP32 starts; 34-39 can only be read.
#pragma once

#include <cstdint>

#include "ct/sensors/driver.h"

// What is built in, unless the build says otherwise (build_flags in platformio.ini).
#ifndef CT_CO2
#define CT_CO2 ndir20  // ndir20 (GSS SprintIR, ExplorIR), mhz19 (for demonstrations: it ends at 1 %), none
#endif
#ifndef CT_TEMPERATURE
#define CT_TEMPERATURE max31856  // max31856, max31855, max6675, none
#endif
#ifndef CT_VELOCITY
#define CT_VELOCITY sdp8xx  // sdp8xx, pulses, none
#endif
#ifndef CT_METER
#define CT_METER sdm  // sdm, pzem004t, none
#endif

namespace ct::esp32::board {

enum class Co2 { none, ndir20, mhz19 };
enum class Temperature { none, max31856, max31855, max6675 };
enum class Velocity { none, sdp8xx, pulses };
enum class Meter { none, sdm, pzem004t };

constexpr Co2 co2 = Co2::CT_CO2;
constexpr Temperature temperature = Temperature::CT_TEMPERATURE;
constexpr Velocity velocity = Velocity::CT_VELOCITY;
constexpr Meter meter = Meter::CT_METER;

constexpr const char* hardware = "ct-1";
constexpr const char* firmware = "0.1.0";

// CO2 head: UART 1.
constexpr int co2_tx = 17;
constexpr int co2_rx = 16;
// RS-485: UART 2, and the pin that switches its driver on (DE and RE together).
constexpr int rs485_tx = 25;
constexpr int rs485_rx = 26;
constexpr int rs485_de = 27;
constexpr int rs485_baud = 9600;
constexpr std::uint8_t meter_unit = 1;
// Differential pressure: I2C.
constexpr int i2c_sda = 21;
constexpr int i2c_scl = 22;
// Thermocouple: SPI.
constexpr int spi_sck = 18;
constexpr int spi_miso = 19;
constexpr int spi_mosi = 23;
constexpr int thermocouple_cs = 13;
// Anemometer with pulses; 1 kHz at most, so what is shorter than 10 us is none.
constexpr int pulse_input = 34;
constexpr std::uint32_t shortest_pulse_ns = 10000;
constexpr float pulse_ms_per_hz = 0.1F;  // from the anemometer's certificate
// What a person sees, hears and presses.
constexpr int led = 32;
constexpr int buzzer = 33;
constexpr int button = 4;  // to ground; held at the start it opens the access point for setting up

constexpr const char* time_servers[] = {"pool.ntp.org", "time.cloudflare.com"};

}  // namespace ct::esp32::board
