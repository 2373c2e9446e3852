#include "ct/app/provision.h"

#include <doctest/doctest.h>

#include "fakes.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("provision");

namespace {

std::string answer(hal::KeyValue& values, const std::string& line) {
    static app::Provision::Room room;
    std::array<char, app::Provision::largest_answer> buffer;
    json::Writer out(buffer.data(), buffer.size());
    app::Provision(values, room).take(line, out);
    CHECK(out.is_whole());
    return std::string(out.written());
}

std::string value(FakeValues& values, const char* name) {
    const auto found = values.kept.find(name);
    return found == values.kept.end() ? "" : std::string(found->second.begin(), found->second.end());
}

constexpr const char* all = R"({"provision":{"id":"dev-007","password":"simba","host":"mqtt.example.org","port":8884}})";

}  // namespace

TEST_CASE("golden lines, one after the other, have their answers") {
    FakeValues values;
    const Golden golden("provision.json");
    for (json::Value::Walk walk(golden.root()); walk.next();) {
        CAPTURE(text(walk.value(), "about"));
        const std::string said = answer(values, text(walk.value(), "line"));
        CHECK(said == text(walk.value(), "answer"));
        for (const char* secret : {"geheim", "simba1234", "MIIB", "MFkw"}) {
            CHECK(said.find(secret) == std::string::npos);
        }
    }
}

TEST_CASE("what was said is kept as it was meant, escapes and all") {
    FakeValues values;
    CHECK(answer(values, all) == R"({"ok":true})");
    CHECK(answer(values, R"({"provision":{"ca":"-----BEGIN CERTIFICATE-----\nMIIB\n","wifi_ssid":"Chai \u00e9"}})") ==
          R"({"ok":true})");
    CHECK(value(values, "id") == "dev-007");
    CHECK(value(values, "port") == "8884");
    CHECK(value(values, "ca") == "-----BEGIN CERTIFICATE-----\nMIIB\n");
    CHECK(value(values, "wifi_ssid") == "Chai \xC3\xA9");
}

TEST_CASE("the power goes at every write: a node that was told half is not complete until it is told again") {
    for (unsigned cut = 0; cut < 12; ++cut) {
        for (const bool is_done : {false, true}) {
            FakeValues values;
            REQUIRE(answer(values, all) == R"({"ok":true})");
            values.writes = 0;
            values.cut_at = cut;
            values.is_done_at_cut = is_done;
            const std::string line =
                R"({"provision":{"id":"dev-008","password":"chui","host":"other.example.org","port":1}})";
            const bool is_ok = answer(values, line) == R"({"ok":true})";
            values.power_on();
            if (app::Provision::is_complete(values)) {
                const std::string id = value(values, "id");
                CHECK(value(values, "host") == (id == "dev-007" ? "mqtt.example.org" : "other.example.org"));
                CHECK(value(values, "password") == (id == "dev-007" ? "simba" : "chui"));
                CHECK(value(values, "port") == (id == "dev-007" ? "8884" : "1"));
                CHECK((!is_ok || id == "dev-008"));
            } else {
                CHECK_FALSE(is_ok);
            }
            CHECK(answer(values, line) == R"({"ok":true})");
            CHECK(app::Provision::is_complete(values));
        }
    }
}

TEST_CASE("flash that takes nothing is said") {
    FakeValues values;
    values.refuses = true;
    CHECK(answer(values, all) == R"({"ok":false,"errors":[{"path":"","code":"storage"}]})");
    CHECK_FALSE(app::Provision::is_complete(values));
}

TEST_CASE("values and lines that are too long are refused") {
    FakeValues values;
    const std::string pem = "-----BEGIN CERTIFICATE-----" + std::string(4096, 'A');
    CHECK(answer(values, R"({"provision":{"id":"a","password":"b","host":"c","ca":")" + pem + R"("}})") ==
          R"({"ok":false,"errors":[{"path":"ca","code":"size"}]})");
    CHECK(answer(values, R"({"provision":{"id":")" + std::string(13000, 'a') + R"("}})") ==
          R"({"ok":false,"errors":[{"path":"","code":"syntax"}]})");
}

TEST_CASE("letters become lines; one that is too long is none") {
    app::LineReader<8> reader;
    std::vector<std::string> lines;
    for (const char letter : std::string("ab\r\n\ncdefghijk\nlm\n")) {
        if (reader.take(letter)) {
            lines.emplace_back(reader.line());
        }
    }
    CHECK(lines == std::vector<std::string>{"ab", "", "", "{", "lm"});
}

TEST_SUITE_END();
