#include "setup_mode.h"

#include <Arduino.h>
#include <WebServer.h>
#include <WiFi.h>
#include <esp_mac.h>
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>

#include <cstdio>
#include <new>

#include "machine.h"
#include "setup_page.h"

namespace ct::esp32 {

void Console::begin() {
    constexpr std::size_t buffer = 1024;  // at 115200 baud that is 90 ms
    Serial.setRxBufferSize(buffer);
    Serial.begin(115200);
}

bool Console::poll() {
    bool is_taken = false;
    while (Serial.available() > 0) {
        if (!reader_.take(static_cast<char>(Serial.read()))) {
            continue;
        }
        std::array<char, app::Provision::largest_answer> buffer;
        json::Writer out(buffer.data(), buffer.size());
        provision_.take(reader_.line(), out);
        const std::string_view answer = out.written();
        if (!answer.empty()) {
            Serial.write(reinterpret_cast<const std::uint8_t*>(answer.data()), answer.size());
            Serial.println();
        }
        is_taken = is_taken || answer == R"({"ok":true})";
    }
    return is_taken;
}

namespace {

class SentForm final : public SetupPage::Form {
public:
    explicit SentForm(WebServer& server) : server_(server) {}
    std::optional<std::string_view> field(const char* name) override {
        if (!server_.hasArg(name)) {
            return std::nullopt;
        }
        text_ = server_.arg(name);
        return std::string_view(text_.c_str(), text_.length());
    }

private:
    WebServer& server_;
    String text_;
};

// The access point is named after the chip; its password is on the serial line, and on the box's label.
void open_access_point(hal::KeyValue& values) {
    ChipRandom random;
    const SetupPassword password = setup_password(values, random);
    std::uint8_t mac[6] = {};
    esp_read_mac(mac, ESP_MAC_WIFI_STA);
    std::array<char, 24> name;
    std::snprintf(name.data(), name.size(), "carbontrack-%02x%02x", unsigned{mac[4]}, unsigned{mac[5]});
    WiFi.mode(WIFI_MODE_AP);
    WiFi.softAP(name.data(), password.data());  // WPA2
    Serial.print("{\"access_point\":\"");
    Serial.print(name.data());
    Serial.print("\",\"password\":\"");
    Serial.print(password.data());
    Serial.println("\",\"page\":\"http://192.168.4.1/\"}");
}

void send(WebServer& server, std::string_view page) {
    server.sendHeader("Cache-Control", "no-store");
    server.sendHeader("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'");
    server.send(200, "text/html; charset=utf-8", page.empty() ? "" : page.data());
}

}  // namespace

void run_access_point(app::Provision& provision, Console& console, hal::KeyValue& values, std::uint64_t longest_ms) {
    struct Rooms {  // 18 KiB that are needed here only
        SetupPage::Page page;
        SetupPage::Line line;
    };
    auto* const rooms = new (std::nothrow) Rooms();
    if (rooms == nullptr) {
        return;
    }
    SetupPage page(provision, values, rooms->page, rooms->line);
    WebServer server(80);
    bool is_done = false;
    server.on("/", HTTP_GET, [&] { send(server, page.show()); });
    server.on("/", HTTP_POST, [&] {
        SentForm form(server);
        is_done = page.take(form);
        send(server, page.answer());
    });
    open_access_point(values);
    server.begin();
    const std::uint64_t end_ms = Timer().ms() + longest_ms;
    while (!is_done && (longest_ms == 0 || Timer().ms() < end_ms)) {
        server.handleClient();
        is_done = console.poll() || is_done;
        vTaskDelay(pdMS_TO_TICKS(5));
    }
    vTaskDelay(pdMS_TO_TICKS(1000));  // so that the answer goes out
    delete rooms;
}

}  // namespace ct::esp32
