// The node on an ESP32.
//
//     measure   core 1, high priority: polls the sensors' wires every 20 ms, then the node's half that samples
//     talk      core 0: Wi-Fi, the node's half that talks, then what is ordered of the network
//     loop      core 1, low priority (Arduino's own): the serial line
//
// Only `Halves` is shared, under its one lock. Everything is allocated before the tasks begin.
#include <Arduino.h>
#include <esp_ota_ops.h>
#include <esp_system.h>
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>

#include <cstdlib>
#include <new>
#include <optional>

#include "board.h"
#include "ct/app/halves.h"
#include "ct/app/update.h"
#include "flash.h"
#include "machine.h"
#include "mqtt.h"
#include "setup_mode.h"
#include "sources.h"
#include "update.h"
#include "values.h"
#include "wifi.h"

// A new program confirms itself after its first receipt. Without this Arduino's start would do so before `setup`.
extern "C" bool verifyRollbackLater() { return true; }

// Lines of JSON are read in Arduino's task, and that takes more than its 8 KiB.
SET_LOOP_TASK_STACK_SIZE(12 * 1024)

namespace ct::esp32 {

namespace {

// What the box was told when it was set up, as texts that outlive everything.
struct Credentials {
    explicit Credentials(hal::KeyValue& values)
        : id(values, app::credential::id),
          password(values, app::credential::password),
          ssid(values, app::credential::wifi_ssid),
          wifi_password(values, app::credential::wifi_password),
          host(values, app::credential::host),
          port(values, app::credential::port),
          hardware(values, app::credential::hardware),
          ca(values, app::credential::ca),
          cert(values, app::credential::cert),
          key(values, app::credential::key) {}

    BrokerAccess broker() const {
        BrokerAccess access;
        access.host = host.or_none();
        access.port = port.is_empty() ? 8883 : static_cast<std::uint32_t>(std::atoi(port.c_str()));
        access.ca = ca.or_none();
        access.cert = cert.or_none();
        access.key = key.or_none();
        access.device_id = id.or_none();
        access.password = password.or_none();
        return access;
    }

    TextOf<64> id;
    TextOf<128> password;
    TextOf<32> ssid;
    TextOf<64> wifi_password;
    TextOf<253> host;
    TextOf<5> port;
    TextOf<32> hardware;
    LongTextOf ca, cert, key;
};

// The sensors that board.h says are there.
class Sensors {
public:
    // Their wires; what cannot be opened stays silent, and the node says which value is missing.
    void open() {
        if constexpr (board::co2 != board::Co2::none) {
            open_uart(UART_NUM_1, board::co2_tx, board::co2_rx, 9600);
        }
        if constexpr (board::meter != board::Meter::none) {
            open_uart(UART_NUM_2, board::rs485_tx, board::rs485_rx, board::rs485_baud, board::rs485_de);
        }
        if constexpr (board::temperature != board::Temperature::none) {
            spi_bus_config_t bus = {};
            bus.mosi_io_num = board::spi_mosi;
            bus.miso_io_num = board::spi_miso;
            bus.sclk_io_num = board::spi_sck;
            bus.quadwp_io_num = bus.quadhd_io_num = -1;
            spi_bus_initialize(SPI2_HOST, &bus, SPI_DMA_DISABLED);
            thermocouple_.open(SPI2_HOST, board::thermocouple_cs);
        }
        if constexpr (board::velocity == board::Velocity::sdp8xx) {
            i2c_master_bus_config_t config = {};
            config.sda_io_num = static_cast<gpio_num_t>(board::i2c_sda);
            config.scl_io_num = static_cast<gpio_num_t>(board::i2c_scl);
            config.clk_source = I2C_CLK_SRC_DEFAULT;
            config.glitch_ignore_cnt = 7;
            config.flags.enable_internal_pullup = 1;
            i2c_master_bus_handle_t bus = nullptr;
            if (i2c_new_master_bus(&config, &bus) == ESP_OK) {
                pressure_.emplace(bus).open();
            }
        } else if constexpr (board::velocity == board::Velocity::pulses) {
            pulses_.open(board::pulse_input, board::shortest_pulse_ns);
        }
    }

    void add_to(app::Node& node) {
        if constexpr (board::co2 == board::Co2::ndir20) {
            add(node, sensors::Ndir20{}, gss_, &gss_.calibration());
        } else if constexpr (board::co2 == board::Co2::mhz19) {
            add(node, sensors::Mhz19{}, mhz19_, &mhz19_.calibration());
        }
        if constexpr (board::temperature == board::Temperature::max31856) {
            add(node, sensors::Max31856{}, thermocouple_);
        } else if constexpr (board::temperature == board::Temperature::max31855) {
            add(node, sensors::Max31855{}, thermocouple_);
        } else if constexpr (board::temperature == board::Temperature::max6675) {
            add(node, sensors::Max6675{}, thermocouple_);
        }
        if constexpr (board::velocity == board::Velocity::sdp8xx) {
            if (pressure_) {
                add(node, sensors::Sdp8xx{}, *pressure_);
            }
        } else if constexpr (board::velocity == board::Velocity::pulses) {
            sensors::PulseAnemometer anemometer;
            anemometer.ms_per_hz = board::pulse_ms_per_hz;
            add(node, anemometer, pulses_);
        }
        if constexpr (board::meter != board::Meter::none) {
            add(node, meter_of_board(), meter_);
        }
    }

    void poll(std::uint64_t now_ms) {
        for (std::size_t which = 0; which < count_; ++which) {
            polled_[which]->poll(now_ms);
        }
    }

private:
    static sensors::ModbusMeter meter_of_board() {
        sensors::ModbusMeter meter;
        meter.add(board::meter == board::Meter::pzem004t ? sensors::ModbusMeter::pzem004t(board::meter_unit)
                                                         : sensors::ModbusMeter::sdm(board::meter_unit));
        return meter;
    }
    static constexpr Converter converter() {
        return board::temperature == board::Temperature::max31855  ? Converter::max31855
               : board::temperature == board::Temperature::max6675 ? Converter::max6675
                                                                   : Converter::max31856;
    }
    void add(app::Node& node, const sensors::Driver& driver, Source& source, hal::Calibration* calibration = nullptr) {
        if (node.add_sensor({driver, &source, calibration})) {
            polled_[count_++] = &source;
        }
    }

    GssSource gss_ = GssSource(UART_NUM_1);
    Mhz19Source mhz19_ = Mhz19Source(UART_NUM_1);
    ThermocoupleSource thermocouple_ = ThermocoupleSource(converter());
    std::optional<Sdp8xxSource> pressure_;
    PulseSource pulses_;
    ModbusSource meter_ = ModbusSource(UART_NUM_2, meter_of_board());
    std::array<Source*, app::Node::most_sensors> polled_ = {};
    std::size_t count_ = 0;
};

// Everything that there is once in the box.
struct Box {
    explicit Box(NvsValues& values_of_box)
        : values(values_of_box),
          told(values),
          slots(values),
          chip(slots.running() == hal::Slots::Running::on_trial),
          flash("ring"),
          mqtt(told.broker()),
          download({told.ca.or_none(), told.id.or_none(), told.password.or_none()}),
          wifi(radio, random, told.ssid.c_str(), told.wifi_password.or_none()),
          node({flash, values, mqtt, random, clock, chip, pins}, {}, {}, net_settings()),
          update({slots, download, crypto, values, random}, update_settings(), node.session().room()),
          halves(node, lock, timer) {}

    std::string_view hardware() const { return told.hardware.is_empty() ? board::hardware : told.hardware.c_str(); }
    net::Settings net_settings() const {
        net::Settings settings;
        settings.device_id = {told.id.c_str(), told.id.size()};
        settings.firmware = board::firmware;
        settings.hardware = hardware();
        return settings;
    }
    app::UpdateSettings update_settings() const {
        app::UpdateSettings settings;
        settings.version = board::firmware;
        settings.hardware = hardware();
        return settings;
    }
    // False: the ring cannot be used.
    bool begin() {
        sensors.open();
        sensors.add_to(node);
        update.open();
        node.set_updates(&update);
        return flash.is_there() && node.begin(timer.ms());
    }

    NvsValues& values;
    const Credentials told;
    AppSlots slots;
    Chip chip;
    PartitionFlash flash;
    EspMqtt mqtt;
    HttpDownload download;
    MbedCrypto crypto;
    ChipRandom random;
    SntpClock clock;
    Pins pins;
    WifiRadio radio;
    Wifi wifi;
    Timer timer;
    Mutex lock;
    Sensors sensors;
    app::Node node;
    app::Update update;
    app::Halves halves;
};

Box* the_box = nullptr;
bool does_run = false;  // the two tasks

void measure(void*) {
    constexpr TickType_t grid = pdMS_TO_TICKS(20);
    watchdog::watch_this_task();
    TickType_t woken = xTaskGetTickCount();
    while (true) {
        the_box->sensors.poll(the_box->timer.ms());  // not in the lock: it talks to the wires
        the_box->halves.sample();
        watchdog::is_alive();
        xTaskDelayUntil(&woken, grid);
    }
}

void talk(void*) {
    constexpr TickType_t pause = pdMS_TO_TICKS(20);
    watchdog::watch_this_task();
    the_box->wifi.begin(the_box->told.id.c_str(), the_box->timer.ms());
    the_box->clock.begin();
    while (true) {
        const std::uint64_t now_ms = the_box->timer.ms();
        const bool has_network = the_box->wifi.step(now_ms);
        if (the_box->wifi.is_hopeless(now_ms)) {
            the_box->halves.with([](app::Node& node, std::uint64_t at_ms) { node.restart(at_ms, "no network"); });
        }
        the_box->halves.talk();
        the_box->halves.with([](app::Node& node, std::uint64_t at_ms) { the_box->update.step(node, at_ms); });
        the_box->mqtt.work(has_network);  // not in the lock: it may take seconds
        the_box->chip.reboot_if_asked();
        watchdog::is_alive();
        vTaskDelay(pause);
    }
}

// Whether everything is there that this box needs to connect: beyond what any node needs, a Wi-Fi and a CA.
bool is_set_up(hal::KeyValue& values) {
    const auto has = [&values](const char* name) {
        std::uint8_t none = 0;
        return values.get(name, &none, 0).value_or(0) > 0;
    };
    return app::Provision::is_complete(values) && has(app::credential::wifi_ssid) && has(app::credential::ca);
}

void say(const char* line) { Serial.println(line); }

// A box that is not set up yet, or that somebody wants to set up anew, measures nothing.
void set_up_if_needed(app::Provision& provision, Console& console, NvsValues& values) {
    constexpr std::uint64_t by_button_ms = 10 * 60000;
    if (Pins::is_button_held() || !is_set_up(values)) {
        run_access_point(provision, console, values, is_set_up(values) ? by_button_ms : 0);
        esp_restart();
    }
}

NvsValues the_values;
app::Provision::Room the_room;
app::Provision the_provision(the_values, the_room);
Console the_console(the_provision);

}  // namespace

}  // namespace ct::esp32

void setup() {
    using namespace ct::esp32;
    the_console.begin();
    Pins().begin();
    if (!the_values.open()) {
        say("{\"problem\":\"the partition nvs cannot be used\"}");
    }
    set_up_if_needed(the_provision, the_console, the_values);
    the_box = new (std::nothrow) Box(the_values);
    if (the_box == nullptr) {
        say("{\"problem\":\"there is not enough memory\"}");
        esp_restart();
    }
    watchdog::begin();
    if (!the_box->begin()) {
        say("{\"problem\":\"the partition ring cannot be used\"}");
        return;  // there is nowhere to keep a reading: only the serial line goes on
    }
    constexpr std::uint32_t measure_stack = 8192, talk_stack = 10240;
    does_run = xTaskCreatePinnedToCore(measure, "measure", measure_stack, nullptr, 15, nullptr, 1) == pdPASS &&
               xTaskCreatePinnedToCore(talk, "talk", talk_stack, nullptr, 5, nullptr, 0) == pdPASS;
    if (!does_run) {
        esp_restart();
    }
}

void loop() {
    using namespace ct::esp32;
    if (the_console.poll()) {  // new credentials count from the next start on
        if (!does_run) {
            esp_restart();
        }
        the_box->halves.with([](ct::app::Node& node, std::uint64_t now_ms) { node.restart(now_ms, "provisioned"); });
    }
    vTaskDelay(pdMS_TO_TICKS(20));
}
