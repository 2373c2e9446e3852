#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "ct/store/ring.h"
#include "fake_flash.h"

using namespace ct;
using namespace ct::store;
using namespace ct::test;

TEST_SUITE_BEGIN("store");

namespace {

constexpr std::uint32_t sid = 0x9F3C21AA;

Record sample_of(std::int32_t co2_tenth_ppm, std::uint64_t time_ms = 1795433047123) {
    Record record;
    record.time_ms = time_ms;
    record.clock = ClockQuality::synced;
    record.cfg = 17;
    Sample sample;
    sample.co2_tenth_ppm = co2_tenth_ppm;
    sample.temperature_16th_c = 2932;
    record.content = sample;
    return record;
}

std::int32_t co2_of(const Record& record) { return std::get<Sample>(record.content).co2_tenth_ppm; }

// All records from a number on, by their numbers.
std::map<std::uint32_t, std::int32_t> read_all(Ring& ring, std::uint32_t from = 1) {
    std::map<std::uint32_t, std::int32_t> found;
    Ring::Cursor cursor;
    cursor.seq = from;
    Record record;
    while (ring.next(cursor, record)) {
        found[record.seq] = co2_of(record);
    }
    return found;
}

}  // namespace

TEST_CASE("a record of every kind comes out of its 32 bytes as it went in") {
    Sample sample;
    sample.co2_tenth_ppm = 980001;
    sample.temperature_16th_c = -160;
    sample.velocity_mm_s = 4120;
    sample.pressure_difference_50th_pa = -180;
    sample.pressure_2_pa = 39840;
    sample.inside_c = -3;
    sample.status = 0x7FFF;
    Meter meter;
    meter.run_s = 86400;
    meter.kwh_hundredth = 493827;
    meter.litres_tenth = 123456;
    meter.resets = 3;
    Health health;
    health.rssi_dbm = -71;
    health.drift_ppm = -12;
    health.ring_used = 292608;
    health.reconnects = 93;
    health.uptime_s = 1000000;
    Event event;
    event.value = 1048577.5;
    event.limit = 350.0F;
    for (const Content& content :
         {Content(sample), Content(meter), Content(health), Content(event), Content(Gap{5, 900, Why::ack_regressed}),
          Content(Anchor{1795433047123, 86400000})}) {
        Record record;
        record.seq = 1048577;
        record.time_ms = 1795433047123;
        record.clock = ClockQuality::hold_over;
        record.boot = 412;
        record.cfg = 17;
        record.content = content;

        Record found;
        REQUIRE(unpack(pack(record), found));

        CHECK(pack(found) == pack(record));
        CHECK(found.seq == record.seq);
        CHECK(found.time_ms == record.time_ms);
        CHECK(found.content.index() == content.index());
    }
    Record found;
    Record record = sample_of(absent);
    REQUIRE(unpack(pack(record), found));
    CHECK(co2_of(found) == absent);
    CHECK(std::get<Sample>(found.content).velocity_mm_s == absent);
    CHECK(std::get<Sample>(found.content).inside_c == absent);
}

TEST_CASE("no bit of a record can flip without being noticed, and erased flash is no record") {
    const Slot slot = pack(sample_of(980000));
    Record found;
    for (std::size_t bit = 0; bit < 8 * slot_size; ++bit) {
        Slot changed = slot;
        changed[bit / 8] = static_cast<std::uint8_t>(changed[bit / 8] ^ (1U << bit % 8));
        CHECK_FALSE(unpack(changed, found));
    }
    Slot erased;
    erased.fill(0xFF);
    CHECK_FALSE(unpack(erased, found));
    CHECK_FALSE(unpack(Slot{}, found));
}

TEST_CASE("numbers, stream, boot, connection and watermark survive a restart") {
    FakeFlash flash(4096, 4);
    std::uint32_t connection = 0;
    {
        Ring ring(flash);
        REQUIRE(ring.open(sid));
        CHECK(ring.boot() == 1);
        for (int number = 1; number <= 1000; ++number) {
            Record record = sample_of(number);
            REQUIRE(ring.append(record));
            CHECK(record.seq == static_cast<std::uint32_t>(number));
        }
        for (int times = 0; times < 40; ++times) {
            connection = ring.new_connection();
        }
        ring.set_watermark(990);
    }
    Ring ring(flash);
    REQUIRE(ring.open(0x11111111));
    CHECK(ring.sid() == sid);
    CHECK(ring.boot() == 2);
    CHECK(ring.next_seq() == 1001);
    CHECK(ring.new_connection() > connection);
    CHECK(ring.watermark() == 990);
    CHECK(ring.first_unreceipted() == 991);
    CHECK(co2_of([&] { Record record; REQUIRE(ring.newest_of(0, record)); return record; }()) == 1000);
    CHECK_FALSE(flash.broke_a_rule);
}

TEST_CASE("when it is full the oldest sector goes, all sectors wear alike, and what is left has no hole") {
    FakeFlash flash(512, 8);
    Ring ring(flash);
    REQUIRE(ring.open(sid));
    for (int number = 1; number <= 5000; ++number) {
        Record record = sample_of(number);
        REQUIRE(ring.append(record));
    }
    const auto found = read_all(ring);
    CHECK(found.rbegin()->first == 5000);
    CHECK(found.size() >= ring.capacity() - 2);
    CHECK(found.size() == 5000 - found.begin()->first + 1);
    CHECK(ring.first_unreceipted() == found.begin()->first);
    const auto [least, most] = std::minmax_element(flash.erasures().begin(), flash.erasures().end());
    CHECK(*most - *least <= 1);
    CHECK_FALSE(flash.broke_a_rule);
}

TEST_CASE("a reader that is overtaken goes on with the oldest that is left") {
    FakeFlash flash(512, 4);
    Ring ring(flash);
    REQUIRE(ring.open(sid));
    Ring::Cursor cursor;
    Record record = sample_of(1);
    REQUIRE(ring.append(record));
    REQUIRE(ring.next(cursor, record));
    CHECK_FALSE(ring.next(cursor, record));
    for (int number = 2; number <= 100; ++number) {
        record = sample_of(number);
        REQUIRE(ring.append(record));
    }
    REQUIRE(ring.next(cursor, record));
    CHECK(record.seq > 2);
    CHECK(record.seq == read_all(ring).begin()->first);
}

TEST_CASE("receipted records stay readable, so a receipt that goes back finds them again") {
    FakeFlash flash(512, 8);
    Ring ring(flash);
    REQUIRE(ring.open(sid));
    for (int number = 1; number <= 60; ++number) {
        Record record = sample_of(number);
        REQUIRE(ring.append(record));
    }
    ring.set_watermark(60);
    CHECK(ring.unreceipted() == 0);
    CHECK(ring.first_unreceipted() == 61);
    ring.set_watermark(20);
    CHECK(ring.first_unreceipted() == 21);
    ring.set_watermark(61);
    CHECK_MESSAGE(ring.watermark() == 20, "a number that was never given is no receipt");
}

TEST_CASE("flash that does not answer is not taken for empty") {
    FakeFlash flash(512, 4);
    {
        Ring ring(flash);
        REQUIRE(ring.open(sid));
        Record record = sample_of(1);
        REQUIRE(ring.append(record));
    }
    const auto before = flash.bytes();
    flash.reads_fail = true;
    Ring ring(flash);
    CHECK_FALSE(ring.open(0x22222222));
    CHECK(flash.bytes() == before);
}

TEST_CASE("a sector that cannot be written any more is left out") {
    FakeFlash flash(512, 5);
    flash.failing_sector = 2;
    std::uint32_t last = 0;
    for (unsigned restart = 0; restart < 6; ++restart) {
        Ring ring(flash);
        REQUIRE(ring.open(sid));
        for (int number = 0; number < 50; ++number) {
            Record record = sample_of(number);
            REQUIRE(ring.append(record));
            CHECK(record.seq == ++last);
        }
        CHECK(read_all(ring).size() >= 3 * 15 - 4);
    }
}

TEST_CASE("a new stream begins with number 1, and what was there before is gone") {
    FakeFlash flash(512, 4);
    Ring ring(flash);
    REQUIRE(ring.open(sid));
    for (int number = 1; number <= 40; ++number) {
        Record record = sample_of(number);
        REQUIRE(ring.append(record));
    }
    REQUIRE(ring.format(0x01234567));
    CHECK(read_all(ring).empty());
    Record record = sample_of(7);
    REQUIRE(ring.append(record));
    CHECK(record.seq == 1);
    Ring again(flash);
    REQUIRE(again.open(sid));
    CHECK(again.sid() == 0x01234567);
    CHECK(read_all(again) == std::map<std::uint32_t, std::int32_t>{{1, 7}});
}

namespace {

// What a node does over and over, and what it may rely on when the power comes back.
struct Life {
    std::map<std::uint32_t, std::int32_t> kept;  // records whose append came back
    std::int32_t in_flight = 0;                  // what was being appended when the power went
    std::uint32_t watermark = 0;
    std::uint32_t connection = 0;
    unsigned boot = 0;
    std::int32_t serial = 0;  // never the same twice: what tells a record that took another's number
};

// Lives until the power goes, or `records` have been kept.
void live(FakeFlash& flash, Life& life, unsigned records) {
    Ring ring(flash);
    if (!ring.open(sid)) {
        return;
    }
    CHECK(ring.boot() >= life.boot);
    life.boot = ring.boot();
    for (unsigned count = 0; count < records && !flash.is_off(); ++count) {
        Record record = sample_of(++life.serial);
        life.in_flight = life.serial;
        if (!ring.append(record)) {
            return;
        }
        CHECK_MESSAGE(life.kept.count(record.seq) == 0, "a number was used twice");
        life.kept[record.seq] = life.serial;
        life.in_flight = 0;
        if (count % 7 == 6) {
            life.watermark = record.seq - 3;
            ring.set_watermark(life.watermark);
        }
        if (count % 11 == 10) {
            const std::uint32_t connection = ring.new_connection();
            if (!flash.is_off()) {
                CHECK(connection > life.connection);
                life.connection = connection;
            }
        }
    }
}

// After the power is back: everything that was kept is there (as far as the ring reaches back), with its own content.
void check_nothing_lost(FakeFlash& flash, Life& life) {
    Ring ring(flash);
    REQUIRE(ring.open(sid));
    REQUIRE(ring.sid() == sid);
    CHECK(ring.watermark() <= life.watermark);
    auto found = read_all(ring);
    if (life.in_flight != 0 && !found.empty() && found.rbegin()->second == life.in_flight) {
        life.kept[found.rbegin()->first] = life.in_flight;  // it was whole, although nobody heard so
    }
    const std::uint32_t last = life.kept.empty() ? 0 : life.kept.rbegin()->first;
    CHECK(ring.next_seq() == last + 1);
    for (const auto& [seq, serial] : found) {
        const auto kept = life.kept.find(seq);
        const bool is_ours = kept != life.kept.end() && kept->second == serial;
        CHECK(is_ours);
    }
    const std::uint32_t reach = ring.capacity() - 15 - 8;  // one sector half erased, and the notes
    for (std::uint32_t seq = last > reach ? last - reach + 1 : 1; seq <= last; ++seq) {
        CHECK(found.count(seq) == 1);
    }
    life.boot = ring.boot();
}

}  // namespace

TEST_CASE("the power may go at every single flash operation over three rounds of the ring") {
    constexpr unsigned records = 3 * 5 * 15;
    const std::uint64_t operations = [] {
        FakeFlash flash(512, 5);
        Life life;
        live(flash, life, records);
        CHECK_FALSE(flash.broke_a_rule);
        return flash.operations();
    }();
    REQUIRE(operations > records);
    for (std::uint64_t operation = 0; operation < operations; ++operation) {
        for (const FakeFlash::Tear tear : FakeFlash::tears) {
            CAPTURE(operation);
            CAPTURE(static_cast<int>(tear));
            FakeFlash flash(512, 5);
            flash.cut_at(operation, tear);
            Life life;
            live(flash, life, records);
            REQUIRE(flash.is_off());
            flash.power_on();
            check_nothing_lost(flash, life);
            life.in_flight = 0;
            live(flash, life, 20);  // and it goes on
            check_nothing_lost(flash, life);
        }
    }
}

TEST_CASE("the power may go again and again, also while it starts") {
    FakeFlash flash(512, 5);
    Life life;
    std::uint64_t state = 42;
    for (unsigned times = 0; times < 3000; ++times) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        flash.cut_at(flash.operations() + (state >> 33) % 40, FakeFlash::tears[(state >> 40) % 5]);
        live(flash, life, 60);
        flash.power_on();
        check_nothing_lost(flash, life);
        life.in_flight = 0;
    }
    CHECK(life.kept.size() > 20000);
}

TEST_CASE("a ring of 9 MiB has room for two weeks at one record every 5 s") {
    FakeFlash flash(4096, 2304);
    Ring ring(flash);
    REQUIRE(ring.open(sid));
    CHECK(ring.capacity() == 292481);
    CHECK(ring.capacity() * 5.0 / 86400.0 > 14.0);
}

TEST_SUITE_END();
