#include <doctest/doctest.h>

#include "ct/wire/message.h"
#include "support.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("wire");

namespace {

std::string scaled(std::int64_t value, unsigned decimals) {
    char buffer[40];
    json::Writer out(buffer, sizeof buffer);
    return std::string(out.scaled(value, decimals).written());
}

std::string written(const std::vector<store::Record>& records, const wire::Site& site = {}) {
    static char buffer[wire::largest_message];
    json::Writer out(buffer, sizeof buffer);
    wire::write_records(out, 0x9F3C21AA, site, records.data(), records.size());
    return std::string(out.written());
}

store::Record record_of(std::uint32_t seq, const store::Content& content) {
    store::Record record;
    record.seq = seq;
    record.time_ms = 1795433047123 + std::uint64_t{5000} * (seq - 1048577);
    record.clock = store::ClockQuality::synced;
    record.boot = 412;
    record.cfg = 17;
    record.content = content;
    return record;
}

store::Sample sample() {
    store::Sample sample;
    sample.co2_tenth_ppm = 980000;
    sample.temperature_16th_c = 2932;  // 183.25
    sample.pressure_difference_50th_pa = 180;
    sample.velocity_mm_s = 4120;
    sample.pressure_2_pa = 39840;  // 79.68
    sample.inside_c = 41;
    return sample;
}

wire::Site site() {
    wire::Site site;
    site.cfg = 17;
    return site;
}

}  // namespace

TEST_CASE("numbers are written without rounding and without zeros that say nothing") {
    CHECK(scaled(0, 0) == "0");
    CHECK(scaled(0, 4) == "0");
    CHECK(scaled(18325, 2) == "183.25");
    CHECK(scaled(980000, 1) == "98000");
    CHECK(scaled(-5, 3) == "-0.005");
    CHECK(scaled(100, 2) == "1");
    CHECK(scaled(7, 6) == "0.000007");
    CHECK(scaled(std::numeric_limits<std::int64_t>::min(), 0) == "-9223372036854775808");
    CHECK(scaled(std::numeric_limits<std::int64_t>::max(), 18) == "9.223372036854775807");
}

TEST_CASE("what does not fit is not written at all, whatever the buffer's size") {
    const std::string whole = written({record_of(1048577, sample())}, site());
    std::vector<char> buffer(whole.size());
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        json::Writer out(buffer.data(), size);
        const store::Record record = record_of(1048577, sample());
        wire::write_records(out, 0x9F3C21AA, site(), &record, 1);
        CHECK(out.is_whole() == (size == whole.size()));
        CHECK(out.written().size() == (size == whole.size() ? whole.size() : 0));
    }
}

TEST_CASE("text is escaped so that it is read as it was") {
    char buffer[80];
    json::Writer out(buffer, sizeof buffer);
    const std::string given = "a \"b\" \\ \n \x01 \xC3\xA9";
    out.text(given);
    char copy[80];
    CHECK(json::parse(out.written())->copy_text(copy, sizeof copy) == given);
}

TEST_CASE("a live message is the one of the protocol's page, with the rate of the calculation's page") {
    CHECK(written({record_of(1048577, sample())}, site()) ==
          R"({"v":1,"sid":"9f3c21aa","boot":412,"cfg":17,"seq":1048577,"n":1,"t":1795433047123,)"
          R"("s":{"cols":["ds","dt","tq","co2","tg","dp","v","pa","ti","m","st"],)"
          R"("rows":[[0,0,1,98000,183.25,3.6,4.12,79.68,41,0.148537,0]]}})");
}

TEST_CASE("what is missing is null, and without it there is no rate") {
    store::Sample empty;
    empty.status = 18;
    CHECK(written({record_of(1, empty)}, site()).find("[[0,0,1,null,null,null,null,null,null,null,18]]") !=
          std::string::npos);
}

TEST_CASE("what was measured under other settings is sent without a rate of these") {
    wire::Site other = site();
    other.cfg = 18;
    CHECK(written({record_of(1048577, sample())}, other).find(",41,null,0]") != std::string::npos);
}

TEST_CASE("kinds stand in blocks of their own, each row with its own number and time") {
    store::Meter meter;
    meter.run_s = 86400;
    meter.kwh_hundredth = 493827;
    meter.resets = 1;
    store::Health health;
    health.rssi_dbm = -71;
    health.ring_used = 5;
    health.reconnects = 93;
    health.uptime_s = 3600;
    store::Event event;
    event.value = 20;
    event.limit = 60.0F;
    const std::string body = written({record_of(1048577, sample()), record_of(1048578, meter),
                                      record_of(1048579, sample()), record_of(1048580, health),
                                      record_of(1048581, event), record_of(1048582, store::Gap{5, 900}),
                                      record_of(1048583, store::Anchor{1795433077123, 30000})},
                                     site());
    const auto message = json::parse(body);
    REQUIRE(message);
    CHECK(message->member("n")->integer() == 7);
    CHECK(body.find(R"(41,0.148537,0],[2,10000,1,98000)") != std::string::npos);
    CHECK(body.find(R"("m":{"cols":["ds","dt","tq","run_s","kwh","litres","genset_kwh","rst"],)"
                    R"("rows":[[1,5000,1,86400,4938.27,null,null,1]]})") != std::string::npos);
    CHECK(body.find(R"([3,15000,1,-71,5,93,3600,0,null,null])") != std::string::npos);
    CHECK(body.find(R"([4,20000,1,"ack_regressed","warning",1,20,60])") != std::string::npos);
    CHECK(body.find(R"("g":{"cols":["ds","dt","tq","from","to","why"],"rows":[[5,25000,1,5,900,"overwritten"]]})") !=
          std::string::npos);
    CHECK(body.find(R"([6,30000,1,412,1795433077123,30000])") != std::string::npos);
}

TEST_CASE("the largest batch of the longest records fits into the buffer") {
    store::Sample longest;
    longest.co2_tenth_ppm = std::numeric_limits<std::int32_t>::max();
    longest.temperature_16th_c = -32767;
    longest.velocity_mm_s = 65533;
    longest.pressure_difference_50th_pa = -32767;
    longest.pressure_2_pa = 65533;
    longest.inside_c = -127;
    longest.status = 0x7FFF;
    store::Event event;
    event.value = -123456789012.345;
    event.limit = -1234567.891F;
    for (const store::Content& content : {store::Content(longest), store::Content(event)}) {
        std::vector<store::Record> records;
        for (std::uint32_t number = 0; number < wire::most_records; ++number) {
            records.push_back(record_of(4294967000U + number, content));
            records.back().time_ms = number % 2 == 0 ? 253402300799000 : 0;
        }
        CHECK(written(records, site()).size() > 3000);
    }
}

TEST_CASE("a record follows another in one message only within one boot, one revision and one way to tell the time") {
    const store::Record first = record_of(5, sample());
    store::Record next = record_of(6, sample());
    CHECK(wire::can_follow(first, next));
    next.clock = store::ClockQuality::hold_over;
    CHECK(wire::can_follow(first, next));
    next.clock = store::ClockQuality::unset;
    CHECK_FALSE(wire::can_follow(first, next));
    next = record_of(7, sample());
    CHECK_FALSE(wire::can_follow(first, next));
    next = record_of(6, sample());
    next.boot = 413;
    CHECK_FALSE(wire::can_follow(first, next));
    next.boot = 412;
    next.cfg = 18;
    CHECK_FALSE(wire::can_follow(first, next));
}

TEST_CASE("birth, will and goodbye are those of the protocol's page") {
    char buffer[600];
    json::Writer out(buffer, sizeof buffer);
    const char* const sensors[] = {"ndir20", "max31856"};
    wire::Birth birth;
    birth.connection = 93;
    birth.boot = 412;
    birth.sid = 0x0000ABCD;
    birth.first = 1000;
    birth.next = 1048578;
    birth.capacity = 292481;
    birth.firmware = "0.1.0";
    birth.hardware = "ct-1";
    birth.reset_cause = "poweron";
    wire::write_birth(out, birth, sensors, 2);
    CHECK(out.written() == R"({"v":1,"online":true,"conn":93,"boot":412,"sid":"0000abcd","fw":"0.1.0","hw":"ct-1",)"
                           R"("mode":"run","rst":"poweron","cfg":0,"first":1000,"next":1048578,"cap":292481,"t":0,)"
                           R"("sens":[{"drv":"ndir20"},{"drv":"max31856"}]})");
    json::Writer will(buffer, sizeof buffer);
    wire::write_offline(will, 93, 412, "");
    CHECK(will.written() == R"({"v":1,"online":false,"conn":93,"boot":412})");
    json::Writer goodbye(buffer, sizeof buffer);
    wire::write_offline(goodbye, 93, 412, "stopped");
    CHECK(goodbye.written() == R"({"v":1,"online":false,"conn":93,"boot":412,"why":"stopped"})");
}

TEST_CASE("a receipt is read") {
    const auto receipt = wire::read_receipt(R"({"sid":"9f3c21aa","seq":1048577,"now":1795433047456,"credit":5.0})");
    REQUIRE(receipt);
    CHECK(receipt->sid == 0x9F3C21AA);
    CHECK(receipt->seq == 1048577);
    CHECK(receipt->now_ms == 1795433047456);
    CHECK(receipt->credit == 5.0);
    CHECK(wire::read_receipt(R"( {"seq":0,"more":[{"a":null}],"sid":"00000000"} )"));
    CHECK(wire::read_receipt(R"({"sid":"00000000","seq":1,"credit":0})")->credit == 0.0);
    CHECK(wire::read_receipt(R"({"sid":"00000000","seq":1,"credit":2.5e-1})")->credit == doctest::Approx(0.25));
}

TEST_CASE("what is no receipt is refused") {
    for (const char* text : {
             "", "{", "null", "[]", R"({"sid":"9f3c21aa"})", R"({"seq":1})", R"({"sid":"9f3c21a","seq":1})",
             R"({"sid":"9F3C21AA","seq":1})", R"({"sid":9,"seq":1})", R"({"sid":"9f3c21aa","seq":-1})",
             R"({"sid":"9f3c21aa","seq":1.5})", R"({"sid":"9f3c21aa","seq":"1"})", R"({"sid":"9f3c21aa","seq":1e3})",
             R"({"sid":"9f3c21aa","seq":9007199254740993})", R"({"sid":"9f3c21aa","seq":99999999999999999999})",
             R"({"sid":"9f3c21aa","seq":1,"seq":2})", R"({"sid":"9f3c21aa","seq":01})", R"({"sid":"9f3c21aa","seq":1}x)",
             R"({"sid":"9f3c21aa","seq":1,})", R"({"sid":"9f3c21aa","seq":1,"credit":-1})",
             R"({"sid":"9f3c21aa","seq":1,"credit":1e999})", R"({"sid":"9f3c21aa","seq":1,"now":"today"})",
             R"({"sid":"9f3c21aa","seq":1,"credit":NaN})", R"([[[[[[[[[]]]]]]]]])",
         }) {
        CAPTURE(text);
        CHECK_FALSE(wire::read_receipt(text));
    }
    CHECK_FALSE(wire::read_receipt(R"({"sid":"9f3c21aa","seq":1,"x":")" + std::string(600, 'x') + "\"}"));
}

TEST_CASE("JSON is read strictly") {
    for (const char* text : {"0", "-0", "1.5e-3", "\"\"", "\"\\ud83d\\ude00\"", "[]", "{}", "[1,[2,{\"a\":null}]]",
                             " true ", "\"\xC3\xA9\""}) {
        CAPTURE(text);
        CHECK(json::parse(text));
    }
    for (const char* text : {"01", "-", "1.", ".5", "1e", "+1", "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud83d\"",
                             "\"\\ude00\"", "[1,]", "[,1]", "{\"a\"}", "{a:1}", "{\"a\":1,}", "[1 2]", "tru", "nul",
                             "\"\n\"", "\"\xC3\"", "\"\xC0\xAF\"", "\"\xED\xA0\x80\"", "\"\xF5\x80\x80\x80\"", "[", "1 1"}) {
        CAPTURE(text);
        CHECK_FALSE(json::parse(text));
    }
    const std::string deep(1000000, '[');
    CHECK_FALSE(json::parse(deep));
    CHECK(json::parse(R"({"a":1,"b":[1,2],"b":3})")->has_twice("b"));
    CHECK(*json::parse(R"({"a":-12.5e1})")->member("a")->number() == doctest::Approx(-125.0));
}

TEST_SUITE_END();
