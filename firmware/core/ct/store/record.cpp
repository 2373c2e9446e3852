#include "ct/store/record.h"

#include <cmath>
#include <cstring>

#include "ct/crc.h"

namespace ct::store {

namespace {

constexpr std::size_t aux_at = 11;
constexpr std::size_t content_at = 16;
constexpr std::size_t crc_at = 30;

constexpr std::int32_t absent_16 = -32768;
constexpr std::int32_t absent_u16 = 0xFFFF;
constexpr std::int32_t absent_8 = -128;

std::int32_t bounded(std::int32_t value, std::int32_t least, std::int32_t most) {
    return value < least ? least : value > most ? most : value;
}

void put_i16(std::uint8_t* to, std::int32_t value) {
    put_le(to, static_cast<std::uint16_t>(value == absent ? absent_16 : bounded(value, -32767, 32767)));
}

void put_u16(std::uint8_t* to, std::int32_t value) {
    put_le(to, static_cast<std::uint16_t>(value == absent ? absent_u16 : bounded(value, 0, 0xFFFE)));
}

std::int32_t get_i16(const std::uint8_t* from) {
    const auto value = static_cast<std::int16_t>(get_le<std::uint16_t>(from));
    return value == absent_16 ? absent : value;
}

std::int32_t get_u16(const std::uint8_t* from) {
    const auto value = get_le<std::uint16_t>(from);
    return value == absent_u16 ? absent : value;
}

template <typename Float, typename Bits>
Bits bits_of(Float value) {
    static_assert(sizeof(Float) == sizeof(Bits));
    Bits bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

template <typename Float, typename Bits>
Float float_of(Bits bits) {
    static_assert(sizeof(Float) == sizeof(Bits));
    Float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Each kind's content: `at` has its 14 bytes, `aux` the byte that stands before them.

void put(const Sample& sample, std::uint8_t* at, std::uint8_t& aux) {
    put_le(at, static_cast<std::uint32_t>(sample.co2_tenth_ppm));
    put_i16(at + 4, sample.temperature_16th_c);
    put_u16(at + 6, sample.velocity_mm_s);
    put_i16(at + 8, sample.pressure_difference_50th_pa);
    put_u16(at + 10, sample.pressure_2_pa);
    put_le(at + 12, sample.status);
    aux = static_cast<std::uint8_t>(sample.inside_c == absent ? absent_8 : bounded(sample.inside_c, -127, 127));
}

void get(Sample& sample, const std::uint8_t* at, std::uint8_t aux) {
    sample.co2_tenth_ppm = static_cast<std::int32_t>(get_le<std::uint32_t>(at));
    sample.temperature_16th_c = get_i16(at + 4);
    sample.velocity_mm_s = get_u16(at + 6);
    sample.pressure_difference_50th_pa = get_i16(at + 8);
    sample.pressure_2_pa = get_u16(at + 10);
    sample.status = get_le<std::uint16_t>(at + 12);
    const auto inside_c = static_cast<std::int8_t>(aux);
    sample.inside_c = inside_c == absent_8 ? absent : inside_c;
}

void put(const Meter& meter, std::uint8_t* at, std::uint8_t& aux) {
    put_le(at, meter.run_s);
    put_le(at + 4, meter.kwh_hundredth);
    put_le(at + 8, meter.litres_tenth, 3);
    put_le(at + 11, meter.genset_kwh_tenth, 3);
    aux = meter.resets;
}

void get(Meter& meter, const std::uint8_t* at, std::uint8_t aux) {
    meter.run_s = get_le<std::uint32_t>(at);
    meter.kwh_hundredth = get_le<std::uint32_t>(at + 4);
    meter.litres_tenth = get_le<std::uint32_t>(at + 8, 3);
    meter.genset_kwh_tenth = get_le<std::uint32_t>(at + 11, 3);
    meter.resets = aux;
}

void put(const Health& health, std::uint8_t* at, std::uint8_t& aux) {
    put_le(at, health.ring_used, 3);
    at[3] = static_cast<std::uint8_t>(health.drift_ppm);
    put_le(at + 4, health.reconnects);
    put_le(at + 6, health.uptime_s);
    put_le(at + 10, health.frame_errors);
    put_le(at + 12, health.heap_free_kib);
    aux = static_cast<std::uint8_t>(health.rssi_dbm);
}

void get(Health& health, const std::uint8_t* at, std::uint8_t aux) {
    health.ring_used = get_le<std::uint32_t>(at, 3);
    health.drift_ppm = static_cast<std::int8_t>(at[3]);
    health.reconnects = get_le<std::uint16_t>(at + 4);
    health.uptime_s = get_le<std::uint32_t>(at + 6);
    health.frame_errors = get_le<std::uint16_t>(at + 10);
    health.heap_free_kib = get_le<std::uint16_t>(at + 12);
    health.rssi_dbm = static_cast<std::int8_t>(aux);
}

void put(const Event& event, std::uint8_t* at, std::uint8_t& aux) {
    at[0] = static_cast<std::uint8_t>((event.is_on ? 1U : 0U) | static_cast<unsigned>(event.severity) << 1);
    put_le(at + 1, bits_of<double, std::uint64_t>(event.value));
    put_le(at + 9, bits_of<float, std::uint32_t>(event.limit));
    aux = static_cast<std::uint8_t>(event.code);
}

void get(Event& event, const std::uint8_t* at, std::uint8_t aux) {
    event.is_on = (at[0] & 1U) != 0;
    const unsigned severity = (at[0] >> 1) & 3U;
    event.severity = severity <= 2 ? static_cast<Severity>(severity) : Severity::warning;
    event.value = float_of<double, std::uint64_t>(get_le<std::uint64_t>(at + 1));
    event.limit = float_of<float, std::uint32_t>(get_le<std::uint32_t>(at + 9));
    event.code = static_cast<EventCode>(aux);
}

void put(const Gap& gap, std::uint8_t* at, std::uint8_t& aux) {
    put_le(at, gap.from);
    put_le(at + 4, gap.to);
    aux = static_cast<std::uint8_t>(gap.why);
}

void get(Gap& gap, const std::uint8_t* at, std::uint8_t aux) {
    gap.from = get_le<std::uint32_t>(at);
    gap.to = get_le<std::uint32_t>(at + 4);
    gap.why = static_cast<Why>(aux);
}

void put(const Anchor& anchor, std::uint8_t* at, std::uint8_t& aux) {
    put_le(at, anchor.utc_ms, 6);
    put_le(at + 6, anchor.uptime_ms, 6);
    aux = 0;
}

void get(Anchor& anchor, const std::uint8_t* at, std::uint8_t) {
    anchor.utc_ms = get_le<std::uint64_t>(at, 6);
    anchor.uptime_ms = get_le<std::uint64_t>(at + 6, 6);
}

template <std::size_t which = 0>
void put_content(const Content& content, Slot& slot) {
    if constexpr (which < kinds) {
        if (const auto* held = std::get_if<which>(&content)) {
            put(*held, slot.data() + content_at, slot[aux_at]);
        } else {
            put_content<which + 1>(content, slot);
        }
    }
}

template <std::size_t which = 0>
bool get_content(std::size_t kind, const Slot& slot, Content& content) {
    if constexpr (which < kinds) {
        if (kind == which) {
            get(content.emplace<which>(), slot.data() + content_at, slot[aux_at]);
            return true;
        }
        return get_content<which + 1>(kind, slot, content);
    }
    return false;
}

}  // namespace

Slot pack(const Record& record) {
    Slot slot = {};
    put_le(slot.data(), record.seq);
    put_le(slot.data() + 4, record.time_ms, 6);
    slot[10] = static_cast<std::uint8_t>((record.content.index() + 1) | static_cast<unsigned>(record.clock) << 4);
    put_le(slot.data() + 12, record.boot);
    put_le(slot.data() + 14, record.cfg);
    put_content(record.content, slot);
    put_le(slot.data() + crc_at, crc16({slot.data(), crc_at}));
    return slot;
}

bool unpack(const Slot& slot, Record& record) {
    if (get_le<std::uint16_t>(slot.data() + crc_at) != crc16({slot.data(), crc_at})) {
        return false;
    }
    const std::size_t kind = slot[10] & 0x0FU;
    const unsigned clock = slot[10] >> 4;
    if (kind == 0 || clock > 3 || !get_content(kind - 1, slot, record.content)) {
        return false;
    }
    record.seq = get_le<std::uint32_t>(slot.data());
    record.time_ms = get_le<std::uint64_t>(slot.data() + 4, 6);
    record.clock = static_cast<ClockQuality>(clock);
    record.boot = get_le<std::uint16_t>(slot.data() + 12);
    record.cfg = get_le<std::uint16_t>(slot.data() + 14);
    return true;
}

std::int32_t quantised(float value, float steps_per_unit) {
    constexpr float most = 2.0e9F;
    const float steps = std::round(value * steps_per_unit);
    if (!is_known(steps)) {
        return absent;
    }
    return static_cast<std::int32_t>(steps < -most ? -most : steps > most ? most : steps);
}

float value_of(std::int32_t steps, float steps_per_unit) {
    return steps == absent ? missing : static_cast<float>(steps) / steps_per_unit;
}

}  // namespace ct::store
