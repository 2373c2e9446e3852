#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "boiler_day.h"
#include "ct/store/ring.h"
#include "file_flash.h"
#include "file_values.h"
#include "options.h"
#include "support.h"

using namespace ct;

TEST_SUITE_BEGIN("posix");

namespace {

// A file, or a folder, that is not there yet and goes with the test.
struct File {
    std::string path = (std::filesystem::temp_directory_path() / ("ct_flash_" + std::to_string(std::rand()))).string();
    File() { std::filesystem::remove(path); }
    ~File() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a file stands for flash: what was written is there when it is opened again") {
    const File file;
    store::Record record;
    {
        posix::FileFlash flash(file.path, 4);
        REQUIRE(flash.is_open());
        store::Ring ring(flash);
        REQUIRE(ring.open(0xABCD));
        REQUIRE(ring.append(record));
        posix::FileFlash second(file.path, 4);
        CHECK(second.problem().find("another node uses it") != std::string::npos);
    }
    CHECK(std::filesystem::file_size(file.path) == 4 * 4096);
    posix::FileFlash flash(file.path, 4);
    REQUIRE(flash.is_open());
    store::Ring ring(flash);
    REQUIRE(ring.open(0x1234));
    CHECK(ring.sid() == 0xABCD);
    CHECK(ring.next_seq() == 2);
}

TEST_CASE("a file of another size is not taken") {
    const File file;
    std::fclose(std::fopen(file.path.c_str(), "w"));
    std::filesystem::resize_file(file.path, 4096);
    const posix::FileFlash flash(file.path, 4);
    CHECK_FALSE(flash.is_open());
    CHECK(flash.problem().find("--flash-kib") != std::string::npos);
}

TEST_CASE("file flash keeps to the rules of flash: writing clears bits, erasing sets them, and there is an end") {
    const File file;
    posix::FileFlash flash(file.path, 3);
    REQUIRE(flash.is_open());
    const std::uint8_t first[] = {0xF0};
    const std::uint8_t second[] = {0x3C};
    std::uint8_t found = 0;
    CHECK(flash.write(5, {first, 1}));
    CHECK(flash.write(5, {second, 1}));
    CHECK(flash.read(5, &found, 1));
    CHECK(found == 0x30);
    CHECK(flash.erase(0));
    CHECK(flash.read(5, &found, 1));
    CHECK(found == 0xFF);
    CHECK_FALSE(flash.erase(3));
    CHECK_FALSE(flash.read(3 * 4096, &found, 1));
    CHECK_FALSE(flash.write(3 * 4096, {first, 1}));
}

TEST_CASE("values are files in a folder: each is whole, and there when it is opened again") {
    const File folder;
    const std::uint8_t first[] = {1, 2, 3};
    std::array<std::uint8_t, 8> found = {};
    {
        posix::FileValues values(folder.path);
        REQUIRE(values.problem().empty());
        CHECK_FALSE(values.get("id", found.data(), found.size()));
        CHECK(values.erase("id"));
        CHECK(values.set("id", {first, 3}));
        CHECK(values.set("port", {first, 0}));
    }
    posix::FileValues values(folder.path);
    CHECK(values.get("id", found.data(), found.size()) == std::size_t{3});
    CHECK(found[2] == 3);
    CHECK(values.get("id", found.data(), 2) == std::size_t{3});
    CHECK(values.get("port", found.data(), found.size()) == std::size_t{0});
    CHECK(values.text("id") == std::string("\1\2\3"));
    CHECK(values.file_of("id") == folder.path + "/id");
    CHECK(values.file_of("ca").empty());
    CHECK_FALSE_MESSAGE(values.set("a_name_that_is_too_long", {first, 3}), "a chip would not take it either");
    const std::vector<std::uint8_t> large(hal::KeyValue::largest_value + 1);
    CHECK_FALSE(values.set("ca", {large.data(), large.size()}));
    CHECK(values.set("ca", {large.data(), large.size() - 1}));
    CHECK(values.erase("id"));
    CHECK_FALSE(values.get("id", found.data(), found.size()));
    for (const auto& entry : std::filesystem::directory_iterator(folder.path)) {
        CHECK(entry.path().extension() != ".new");
        CHECK((entry.status().permissions() & std::filesystem::perms::others_read) == std::filesystem::perms::none);
    }
}

TEST_CASE("without a folder no value is kept, and that is no secret") {
    posix::FileValues values("");
    const std::uint8_t byte = 1;
    std::uint8_t found = 0;
    CHECK(values.problem().empty());
    CHECK_FALSE(values.set("id", {&byte, 1}));
    CHECK_FALSE(values.get("id", &found, 1));
    CHECK(values.text("id").empty());
    const File file;
    std::fclose(std::fopen(file.path.c_str(), "w"));
    CHECK(posix::FileValues(file.path).problem().find("not a folder") != std::string::npos);
}

TEST_CASE("every scripted sensor sends frames that its decoder reads back as the gas that the script shows") {
    for (const char* name :
         {"ndir20", "mhz19", "max31855", "max31856", "max6675", "sdp8xx", "pulse_anemometer", "modbus_meter"}) {
        CAPTURE(name);
        sensors::Driver driver;
        REQUIRE(posix::driver_of(name, driver));
        for (double second = 0.0; second < 86400.0; second += 61.0) {
            const posix::Flue flue = posix::boiler_at(second, 7);
            const auto bytes = posix::frame_of(driver, flue, 79.5, second);
            const auto frame = sensors::decode(driver, {bytes.data(), bytes.size()});
            REQUIRE(frame.cause == sensors::Cause::none);
            if (is_known(frame.temperature_c)) {
                CHECK(static_cast<double>(frame.temperature_c) == doctest::Approx(flue.temperature_c).epsilon(0.01));
            }
            if (is_known(frame.co2_ppm) && (frame.status & flag::co2_over_range) == 0) {
                CHECK(std::fabs(static_cast<double>(frame.co2_ppm) - flue.co2_ppm) <= 5.01);
            }
        }
    }
    sensors::Driver driver;
    CHECK_FALSE(posix::driver_of("nose", driver));
}

TEST_CASE("the script is a day: cold before half past five, firing at nine, cold again at night") {
    CHECK(posix::boiler_at(3.0 * 3600, 1).co2_ppm < 1000.0);
    CHECK(posix::boiler_at(9.1 * 3600, 1).co2_ppm > 40000.0);
    CHECK(posix::boiler_at(9.1 * 3600, 1).temperature_c > 140.0);
    CHECK(posix::boiler_at(23.0 * 3600, 1).temperature_c < 40.0);
}

TEST_CASE("the command line is read, and what is wrong with it is named") {
    posix::Options options;
    CHECK(posix::read_options({"--id", "dev-001", "--flash", "f", "--ca", "ca.pem", "--sample-ms", "200"}, options)
              .empty());
    CHECK(options.sample_ms == 200);
    CHECK(options.ca_file == "ca.pem");
    for (const std::vector<std::string>& wrong :
         {std::vector<std::string>{"--sample-ms"}, {"--sample-ms", "-5"}, {"--sample-ms", "5x"}, {"--altitude-m", "nan"},
          {"--id", "a b", "--flash", "f", "--plain"}, {"--id", "a", "--flash", "f", "--plain", "--ca", "x"},
          {"--id", "a", "--flash", "f", "--plain", "--cert", "x"}, {"--provision"}, {"--state", "s", "--plain"},
          {"--id", "a", "--flash", "f", "--plain", "--flash-kib", "13"}}) {
        posix::Options read;
        CHECK_FALSE(posix::read_options(wrong, read).empty());
    }
    posix::Options provisioned;
    CHECK(posix::read_options({"--state", "s", "--flash", "f"}, provisioned).empty());
    CHECK(posix::read_options({"--state", "s", "--provision"}, provisioned).empty());
    posix::Options help;
    CHECK(posix::read_options({"--help"}, help).empty());
    CHECK(help.is_help);
}

TEST_SUITE_END();
