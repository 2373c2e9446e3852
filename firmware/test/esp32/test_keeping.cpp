// What survives the power on a chip: the ring's partition, NVS, the slots of programs, and the tables of partitions.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "ct/store/ring.h"
#include "fake_sdk.h"
#include "flash.h"
#include "update.h"
#include "values.h"

using namespace ct;

TEST_SUITE_BEGIN("esp32_keeping");

namespace {

Bytes bytes_of(const std::string& text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

esp32::NvsValues opened() {
    esp32::NvsValues values;
    REQUIRE(values.open());
    return values;
}

std::string text(esp32::NvsValues& values, const char* name) { return esp32::TextOf<64>(values, name).c_str(); }

struct Row {
    std::string name, type, subtype;
    std::uint32_t begin = 0, size = 0;
};

std::vector<Row> table(const std::string& name) {
    std::ifstream file(std::string(FIRMWARE) + "/esp32/" + name);
    std::vector<Row> rows;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#') {
            continue;
        }
        std::replace(line.begin(), line.end(), ',', ' ');
        std::istringstream words(line);
        Row row;
        words >> row.name >> row.type >> row.subtype >> std::hex >> row.begin >> row.size;
        REQUIRE(words);
        rows.push_back(row);
    }
    return rows;
}

}  // namespace

TEST_CASE("a ring in a partition goes on where it stood") {
    fake::power_on();
    fake::sdk().add_partition("ring", 0x220000, 8 * 4096);
    store::Record record;
    {
        esp32::PartitionFlash flash("ring");
        REQUIRE(flash.is_there());
        CHECK(flash.geometry().sectors == 8);
        store::Ring ring(flash);
        REQUIRE(ring.open(0x9F3C21AA));
        for (unsigned count = 0; count < 1500; ++count) {
            REQUIRE(ring.append(record));
        }
    }
    esp32::PartitionFlash flash("ring");
    store::Ring ring(flash);
    REQUIRE(ring.open(1));
    CHECK(ring.sid() == 0x9F3C21AA);
    CHECK(ring.next_seq() == 1501);
    CHECK(ring.first() > 1);  // it went round
    CHECK(fake::sdk().partitions["ring"].erasures >= 12);
}

TEST_CASE("without its partition there is no ring") {
    fake::power_on();
    esp32::PartitionFlash flash("ring");
    CHECK_FALSE(flash.is_there());
    std::uint8_t byte = 0;
    CHECK_FALSE(flash.read(0, &byte, 1));
    CHECK_FALSE(flash.erase(0));
}

TEST_CASE("values are kept, changed, too large to read, and taken away") {
    fake::power_on();
    esp32::NvsValues values = opened();
    std::uint8_t to[4] = {};
    CHECK_FALSE(values.get("host", to, sizeof to));
    CHECK(values.set("host", bytes_of("abc")));
    CHECK(values.set("host", bytes_of("abcdef")));
    CHECK(values.get("host", to, sizeof to) == std::optional<std::size_t>(6));
    CHECK(to[0] == 0);  // nothing of what does not fit
    CHECK(text(values, "host") == "abcdef");
    CHECK(std::string(esp32::LongTextOf(values, "host").or_none()) == "abcdef");
    CHECK(esp32::LongTextOf(values, "ca").or_none() == nullptr);
    CHECK(values.erase("host"));
    CHECK(values.erase("host"));
    CHECK(text(values, "host").empty());
    fake::sdk().nvs_writes = false;
    CHECK_FALSE(values.set("host", bytes_of("x")));
}

TEST_CASE("NVS that cannot be opened keeps nothing and says so") {
    fake::power_on();
    fake::sdk().nvs_opens = false;
    esp32::NvsValues values;
    CHECK_FALSE(values.open());
    std::uint8_t byte = 0;
    CHECK_FALSE(values.get("id", &byte, 1));
    CHECK_FALSE(values.set("id", bytes_of("x")));
    CHECK_FALSE(values.erase("id"));
}

TEST_CASE("a program is written to the other slot, resumed at a step, and tried") {
    fake::power_on();
    fake::sdk().add_partition("app0", 0x20000, 0x40000);
    fake::sdk().add_partition("app1", 0x60000, 0x40000);
    esp32::NvsValues values = opened();
    constexpr std::uint32_t step = hal::Slots::resume_step;
    const std::string first(step, 'a'), rest(5000, 'b');
    {
        esp32::AppSlots slots(values);
        CHECK(slots.running() == hal::Slots::Running::confirmed);
        CHECK(slots.capacity() == 0x40000);
        CHECK_FALSE(slots.begin(0x40001, 0));
        CHECK_FALSE(slots.begin(step + 5000, 4096));
        REQUIRE(slots.begin(step + 5000, 0));
        REQUIRE(slots.write(bytes_of(first)));
        REQUIRE(slots.write(bytes_of("half of a sector that the power cuts off")));
        CHECK_FALSE(slots.finish());
    }
    esp32::AppSlots slots(values);
    REQUIRE(slots.begin(step + 5000, step));
    REQUIRE(slots.write(bytes_of(rest)));
    CHECK_FALSE(slots.write(bytes_of("more")));
    std::uint8_t there[2] = {};
    REQUIRE(slots.read(step - 1, there, 2));
    CHECK(there[0] == 'a');
    CHECK(there[1] == 'b');
    REQUIRE(slots.finish());
    CHECK(fake::sdk().boots == "app1");

    SUBCASE("and confirmed") {
        fake::sdk().running = "app1";
        fake::sdk().partitions["app1"].state = ESP_OTA_IMG_PENDING_VERIFY;  // as the boot loader does
        esp32::AppSlots of_new(values);
        CHECK(of_new.running() == hal::Slots::Running::on_trial);
        CHECK(of_new.go_back());
        CHECK(of_new.confirm());
        CHECK(of_new.running() == hal::Slots::Running::confirmed);
        CHECK_FALSE(of_new.go_back());
    }
    SUBCASE("or given up by the boot loader") {
        fake::sdk().partitions["app1"].state = ESP_OTA_IMG_ABORTED;
        esp32::AppSlots of_old(values);
        CHECK(of_old.running() == hal::Slots::Running::came_back);
        CHECK(of_old.confirm());
        CHECK(of_old.running() == hal::Slots::Running::confirmed);
    }
}

TEST_CASE("a file is fetched with the device's password over TLS, from a byte on, and no further than wanted") {
    fake::power_on();
    esp32::HttpDownload download({"the CA", "dev-001", "secret"});
    std::uint8_t to[700];
    CHECK_FALSE(download.start("http://core.example.org/firmware/1.5.0/ct-1", 0));
    CHECK(download.poll(to, sizeof to).kind == hal::Download::Piece::Kind::nothing);
    fake::Http& http = fake::sdk().http;
    http.body.assign(3000, 'x');
    const auto rest = [&] {
        std::vector<hal::Download::Piece> pieces;
        do {
            pieces.push_back(download.poll(to, sizeof to));
        } while (pieces.back().kind == hal::Download::Piece::Kind::bytes);
        return pieces;
    };
    REQUIRE(download.start("https://core.example.org/firmware/1.5.0/ct-1", 65536));

    SUBCASE("where the server does as it is asked") {
        http.status = 206;
        CHECK(download.work());
        CHECK(http.range == "Range: bytes=65536-");
        CHECK(http.url == "https://core.example.org/firmware/1.5.0/ct-1");
        CHECK(http.user + ":" + http.password + " " + http.ca == "dev-001:secret the CA");
        CHECK_FALSE(http.has_redirects);
        const auto pieces = rest();
        std::uint32_t next = 65536;
        for (const auto& piece : pieces) {
            CHECK((piece.kind != hal::Download::Piece::Kind::bytes || piece.at == next));
            next += static_cast<std::uint32_t>(piece.size);
        }
        CHECK(next == 65536 + 3000);
        CHECK(pieces.back().kind == hal::Download::Piece::Kind::end);
    }
    SUBCASE("where it begins at the beginning") {
        CHECK(download.work());
        CHECK(download.poll(to, sizeof to).at == 0);
    }
    SUBCASE("where it refuses") {
        http.status = 404;
        CHECK(download.work());
        const auto pieces = rest();
        CHECK(pieces.back().kind == hal::Download::Piece::Kind::failed);
        CHECK(pieces.back().status == 404);
    }
    SUBCASE("where it cannot be reached, or breaks off") {
        http.connects = false;
        CHECK(download.work());
        CHECK(rest().back().status == 0);
        http.connects = true;
        http.is_whole = false;
        REQUIRE(download.start("https://core.example.org/firmware/1.5.0/ct-1", 0));
        CHECK(download.work());
        CHECK(rest().back().kind == hal::Download::Piece::Kind::failed);
    }
    SUBCASE("where nobody wants it any more") {
        download.stop();
        CHECK_FALSE(download.work());
        CHECK(rest().back().kind == hal::Download::Piece::Kind::nothing);
    }
}

TEST_CASE("both tables of partitions have two slots, room for values, and a ring of three days") {
    constexpr std::uint32_t records_a_day = 20160, slots_a_sector = 127, sector = 4096, app_alignment = 0x10000;
    for (const auto& [file, flash_size] : {std::pair("partitions_4MB.csv", 0x400000U), std::pair("partitions_16MB.csv", 0x1000000U)}) {
        const std::string name = file;
        CAPTURE(name);
        const auto rows = table(name);
        std::uint32_t end = 0x9000;
        std::map<std::string, std::uint32_t> sizes;
        for (const Row& row : rows) {
            CHECK(row.begin >= end);
            CHECK(row.begin % (row.type == "app" ? app_alignment : sector) == 0);
            end = row.begin + row.size;
            sizes[row.subtype == "0x40" ? row.name : row.subtype] = row.size;
        }
        CHECK(end <= flash_size);
        CHECK(sizes["ota_0"] == sizes["ota_1"]);
        CHECK(sizes["ota_0"] >= 0x100000);
        CHECK(sizes["ota"] == 0x2000);
        CHECK(sizes["nvs"] >= 2 * 6 * hal::KeyValue::largest_value);  // old and new of the largest
        CHECK((sizes["ring"] / sector - 1) * slots_a_sector >= 3 * records_a_day);
    }
}
