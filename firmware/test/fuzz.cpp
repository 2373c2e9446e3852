// Rubbish for everything that reads bytes from outside: golden inputs, changed at random, for a bounded time.
//
//     ct_fuzz [--seconds N] [--seed N] [--corpus FOLDER]
//
// The same seed gives the same inputs. A crash, a sanitizer's complaint or a broken rule ends it with the input's number.
//
// Built with -DLIBFUZZER=ON (clang) the same rules are tried with inputs that libFuzzer looks for by coverage:
// ct_libfuzzer FOLDER, and --corpus of the other build fills the folder with golden inputs to begin with. An input's first
// byte says what reads it.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "ct/app/node.h"
#include "ct/app/provision.h"
#include "ct/crc.h"
#include "ct/wire/offer.h"
#include "fake_flash.h"
#include "fakes.h"

namespace {

using namespace ct;
using namespace ct::test;

using Input = std::vector<std::uint8_t>;

struct Dice {
    std::uint64_t state;
    std::uint32_t next() {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::uint32_t>(state >> 32);
    }
    std::uint32_t below(std::size_t end) { return next() % static_cast<std::uint32_t>(end); }
};

[[noreturn]] void broken(const char* rule) {
    std::fprintf(stderr, "broken: %s\n", rule);
    std::abort();
}

void must(bool holds, const char* rule) {
    if (!holds) {
        broken(rule);
    }
}

Input bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

// Changes some bytes, takes some away, puts some in, or repeats a part.
Input mutated(Input input, Dice& dice) {
    for (std::uint32_t times = 1 + dice.below(4); times > 0; --times) {
        const std::size_t at = input.empty() ? 0 : dice.below(input.size());
        switch (dice.below(6)) {
            case 0:
                if (!input.empty()) {
                    input[at] = static_cast<std::uint8_t>(input[at] ^ (1U << dice.below(8)));
                }
                break;
            case 1:
                if (!input.empty()) {
                    input[at] = static_cast<std::uint8_t>(dice.next());
                }
                break;
            case 2:
                if (!input.empty()) {
                    input.erase(input.begin() + static_cast<std::ptrdiff_t>(at));
                }
                break;
            case 3: input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::uint8_t>(dice.next())); break;
            case 4: input.resize(at); break;
            default: {
                const Input copy(input.begin() + static_cast<std::ptrdiff_t>(at), input.end());
                if (input.size() + copy.size() < 2000) {
                    input.insert(input.end(), copy.begin(), copy.end());
                }
            }
        }
    }
    return input;
}

#ifdef CT_LIBFUZZER
constexpr unsigned targets = 10;
#endif

// --- what reads

unsigned visit(const json::Value& value, unsigned depth) {
    must(depth <= 8, "a document is not deeper than was asked for");
    unsigned count = 1;
    std::vector<char> buffer(value.as_written().size());
    value.copy_text(buffer.data(), buffer.size());
    value.number();
    value.integer();
    for (json::Value::Walk walk(value); walk.next();) {
        count += visit(walk.value(), depth + 1);
    }
    return count;
}

void try_json(const Input& input) {
    const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
    if (const auto value = json::parse(text)) {
        visit(*value, 0);
    }
    if (const auto receipt = wire::read_receipt(text)) {
        must(receipt->seq <= (std::uint64_t{1} << 53), "a receipt's number is a whole number everywhere");
        must(receipt->credit >= 0.0 && std::isfinite(receipt->credit), "a credit is a number");
    }
}

bool is_empty_frame(const sensors::Frame& frame) {
    bool is_empty = frame.status == 0;
    for (const float value : {frame.co2_ppm, frame.temperature_c, frame.velocity_ms, frame.pressure_difference_pa}) {
        is_empty = is_empty && !is_known(value);
        must(!std::isinf(value), "no value is infinite");
    }
    for (const double total : frame.meter) {
        is_empty = is_empty && std::isnan(total);
        must(!std::isinf(total), "no total is infinite");
    }
    return is_empty;
}

void try_frames(const Input& input) {
    const Bytes bytes{input.data(), input.size()};
    sensors::PulseAnemometer pulses;
    pulses.ms_per_hz = 0.1F;
    sensors::ModbusMeter meter;
    meter.add(sensors::ModbusMeter::sdm(1)).add(sensors::ModbusMeter::pzem004t(2));
    for (const sensors::Driver& driver :
         {sensors::Driver(sensors::Mhz19{}), sensors::Driver(sensors::Ndir20{}), sensors::Driver(sensors::Max31855{}),
          sensors::Driver(sensors::Max31856{}), sensors::Driver(sensors::Max6675{}), sensors::Driver(sensors::Sdp8xx{}),
          sensors::Driver(pulses), sensors::Driver(meter)}) {
        const sensors::Frame frame = sensors::decode(driver, bytes);
        must(is_empty_frame(frame) || frame.cause == sensors::Cause::none, "what is refused gives no value");
    }
    if (sensors::decode_sdp8xx(bytes).cause == sensors::Cause::none) {
        must(crc8({input.data(), 2}) == input[2], "no pressure without its checksum");
    }
    if (sensors::decode_modbus_meter(bytes, meter).cause == sensors::Cause::none) {
        must(crc16({input.data(), 8}) == 0, "no total without the checksum of its request");
        must(crc16({input.data() + 8, input.size() - 8}) == 0 || input.size() > 17, "nor without that of its answer");
    }
}

void try_slot(const Input& input, Dice& dice) {
    store::Slot slot = {};
    std::copy_n(input.begin(), std::min(input.size(), slot.size()), slot.begin());
    if (dice.below(2) == 0) {
        put_le(slot.data() + 30, crc16({slot.data(), 30}));  // rubbish that looks whole
    }
    store::Record record;
    if (!store::unpack(slot, record)) {
        return;
    }
    store::Record again;
    must(store::unpack(store::pack(record), again), "what was read can be written");
    static char buffer[wire::largest_message];
    json::Writer out(buffer, sizeof buffer);
    wire::write_records(out, 1, {}, &record, 1);
    must(out.is_whole() && json::parse(out.written()), "what is sent is JSON");
}

void open_anything(FakeFlash& flash) {
    store::Record record;
    store::Ring ring(flash);
    if (!ring.open(2)) {
        return;
    }
    const std::uint32_t next = ring.next_seq();
    must(ring.append(record) ? record.seq == next : next == 0xFFFFFFFF, "the next number is given");
    must(ring.first_unreceipted() <= ring.next_seq(), "what is left is not beyond what was given");
    store::Ring::Cursor cursor;
    std::uint32_t count = 0;
    for (std::uint32_t last = 0; ring.next(cursor, record); last = record.seq) {
        must(record.seq > last, "numbers only go up");
        must(++count <= 4 * 15, "a ring has an end");
    }
}

// A ring that was damaged anywhere opens or says that it cannot, and goes on.
void try_ring(Dice& dice) {
    FakeFlash flash(512, 4);
    store::Record record;
    {
        store::Ring ring(flash);
        must(ring.open(1), "empty flash opens");
        for (std::uint32_t count = dice.below(150); count > 0; --count) {
            ring.append(record);
        }
    }
    for (std::uint32_t times = dice.below(6); times > 0; --times) {
        const std::size_t at = dice.below(flash.bytes().size());
        flash.bytes()[at] = static_cast<std::uint8_t>(dice.next());
        if (dice.below(2) == 0) {
            std::uint8_t* const slot = flash.bytes().data() + at / 32 * 32;
            put_le(slot + 30, crc16({slot, 30}));
        }
    }
    open_anything(flash);
}

// Whatever a broker says, the node stays alive and never forgets what it was not told to.
void try_session(const Input& input, Dice& dice) {
    FakeFlash flash(512, 6);
    FakeMqtt mqtt;
    FakeRandom random;
    wire::Site site;
    store::Ring ring(flash);
    must(ring.open(0x9F3C21AA), "empty flash opens");
    net::Clock clock;
    net::Settings settings;
    settings.device_id = "dev-001";
    net::Session session(ring, mqtt, random, clock, site, settings);
    session.begin(0);
    std::uint64_t now_ms = 0;
    for (unsigned step = 0; step < 60; ++step) {
        now_ms += 100 + dice.below(3000);
        store::Record record;
        ring.append(record);
        const std::uint32_t before = ring.watermark();
        mqtt.acknowledges = dice.below(8) != 0;
        if (dice.below(20) == 0) {
            mqtt.cut();
        }
        mqtt.say(dice.below(4) == 0 ? "x" : "ct/v1/dev-001/dn/ack", std::string(input.begin(), input.end()),
                 dice.below(4) == 0);
        session.step(now_ms);
        must(ring.watermark() < ring.next_seq(), "nothing is receipted that was not given");
        const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
        must(ring.watermark() == before || wire::read_receipt(text), "the tail moves by receipts only");
        mqtt.sent.clear();
    }
}

// --- what the platform and people say

std::string text_of(const Input& input) { return {input.begin(), input.end()}; }

void try_config(const Input& input) {
    const std::string text = text_of(input);
    wire::Config config;
    wire::Problems problems;
    const bool is_taken = wire::read_config(text, {}, config, problems);
    must(is_taken == problems.is_empty(), "what is refused has a reason");
    char buffer[2048];
    json::Writer out(buffer, sizeof buffer);
    wire::write_config_answer(out, wire::rev_of(text), 1, problems);
    must(out.is_whole() && json::parse(out.written()), "an answer is JSON");
    if (!is_taken) {
        return;
    }
    must(config.rev > 0 && config.rev == wire::rev_of(text), "a configuration has a revision");
    must(config.readings >= 1 && config.readings <= 15 && config.sample_s * 1000 / config.readings >= 100, "a pace");
    must(config.limit_count <= wire::Config::most_limits, "no more limits than there is room for");
    must(emission::duct_area_m2(config.plan) > 0.0F, "a duct is open");
    must(wire::is_same(config, config), "a configuration is itself");
}

void try_command(const Input& input) {
    const auto command = wire::read_command(text_of(input));
    if (!command || command->kind == wire::Command::Kind::alarm) {
        return;
    }
    must(command->id[7] != '\0' && command->id[16] == '\0', "an id can be answered");
    char buffer[2048];
    json::Writer out(buffer, sizeof buffer);
    wire::write_result(out, command->id.data(), command->name.data(), wire::Outcome::failed, "bad_args", nullptr);
    must(out.is_whole() && json::parse(out.written()), "a result is JSON");
}

void try_offer(const Input& input) {
    using Kind = wire::Offer::Kind;
    const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
    const wire::Offer offer = wire::read_offer(text);
    must(offer.kind == Kind::nothing || json::parse(text), "an offer is JSON");
    if (offer.kind == Kind::broken || offer.kind == Kind::image) {
        must(wire::is_version(offer.version), "whatever is answered has a version");
        must(wire::compare_versions(offer.version, offer.version) == 0, "a version is itself");
        const int order = wire::compare_versions(offer.version, "1.5.0-rc.1");
        const int other_way = wire::compare_versions("1.5.0-rc.1", offer.version);
        must((order < 0) == (other_way > 0) && (order == 0) == (other_way == 0), "an order has two ends");
    }
    if (offer.kind == Kind::image) {
        must(offer.size > 0 && offer.jitter_s <= 86400 && offer.signature_size <= offer.signature.size(),
             "numbers of an offer are within their bounds");
        must(offer.least.empty() || wire::is_version(offer.least), "the least version is one");
        std::array<char, 256> buffer;
        json::Writer out(buffer.data(), buffer.size());
        wire::write_signed_text(out, offer);
        must(out.is_whole(), "what is signed fits");
    }
    wire::is_version(text);
}

std::vector<Input> golden_offers() {
    const std::string hash(64, 'a');
    const std::string image =
        R"({"v":1,"ver":"1.5.0-rc.1+b7","hw":"ct-1","url":"https://core.example.org/firmware/1.5.0/ct-1","size":1245184,)"
        R"("sha256":")" + hash + R"(","sig":"MEUCIQDW4yRr4mJ8Zg0B7oYw3k1c0m6nJz5uQh3x9e2t8bq1UwIgC0p7","jitter_s":600,)"
        R"("min":"1.3.0","force":true})";
    return {bytes_of(image), bytes_of(R"({"v":1,"ver":null})"), bytes_of(R"({"v":1,"ver":"10.0.1-a.2"})")};
}

void try_provision(const Input& input) {
    static app::Provision::Room room;
    FakeValues values;
    char buffer[app::Provision::largest_answer];
    json::Writer out(buffer, sizeof buffer);
    app::Provision(values, room).take(text_of(input), out);
    must(out.is_whole(), "an answer has room");
    must(out.written().empty() || json::parse(out.written()), "an answer is JSON");
    const bool is_ok = out.written() == R"({"ok":true})";
    must(is_ok || values.kept.empty(), "what is refused changes nothing");
    must(!is_ok || app::Provision::is_complete(values), "what is taken is enough");
}

// Rubbish in what is kept, and from the platform: the node starts, lives, and does not restart for no reason.
void try_node(const Input& kept, const Input& input, Dice& dice) {
    FakeFlash flash(4096, 4);
    FakeValues values;
    FakeMqtt mqtt;
    FakeRandom random;
    FakeWall wall;
    FakeMachine machine;
    FakeSignals signals;
    static constexpr const char* names[] = {"cfg_1", "cfg_2", "cfg_state", "reboot_id", "crashes"};
    values.kept[names[dice.below(5)]] = kept;
    net::Settings net;
    net.device_id = "dev-001";
    app::Node node({flash, values, mqtt, random, wall, machine, signals}, {}, {}, net);
    must(node.begin(0), "empty flash opens");
    static constexpr const char* channels[] = {"config", "cmd", "fw", "ack", "x"};
    for (std::uint64_t now_ms = 100; now_ms < 12000; now_ms += 500) {
        mqtt.say(std::string("ct/v1/dev-001/dn/") + channels[dice.below(5)], text_of(input), dice.below(8) == 0);
        node.step(now_ms);
        const auto& config = node.config();
        must(config.readings >= 1 && config.sample_s >= 1 && config.limit_count <= 6, "what is in force can be");
        for (const Sent& sent : mqtt.sent) {
            must(json::parse(sent.body).has_value(), "what is said is JSON");
        }
        mqtt.sent.clear();
    }
    must(machine.reboots <= 1, "no more than one restart");
}

std::vector<Input> golden_field(const char* file, const char* field) {
    std::vector<Input> found;
    const Golden golden(file);
    for (json::Value::Walk walk(golden.root()); walk.next();) {
        found.push_back(bytes_of(text(walk.value(), field)));
    }
    return found;
}

std::vector<Input> golden_frames() {
    std::vector<Input> found;
    for (const char* name : {"max31855", "max31856", "max6675", "mhz19", "modbus_meter", "ndir20", "pulse_anemometer",
                             "sdp8xx"}) {
        const Golden golden(std::string("frames/") + name + ".json");
        for (json::Value::Walk walk(golden.root()); walk.next();) {
            found.push_back(bytes_of_hex(text(walk.value(), "hex")));
        }
    }
    return found;
}

std::vector<Input> golden_texts() {
    std::vector<Input> found;
    found.push_back(bytes_of(R"({"sid":"9f3c21aa","seq":5,"now":1795433047456,"credit":5.0})"));
    found.push_back(bytes_of(R"({"sid":"9f3c21aa","seq":12,"credit":2.5e-1,"more":[true,null,{"a":"\u00e9\ud83d\ude00"}]})"));
    const Golden golden("ct_v1/messages.json");
    for (json::Value::Walk walk(golden.root()); walk.next();) {
        found.push_back(bytes_of(text(walk.value(), "body")));
    }
    return found;
}

}  // namespace

#ifdef CT_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const Input input(data + 1, data + size);
    Dice dice{crc16({data, size}) + std::uint64_t{1}};
    switch (data[0] % targets) {
        case 0: try_json(input); break;
        case 1: try_frames(input); break;
        case 2: try_slot(input, dice); break;
        case 3: try_config(input); break;
        case 4: try_command(input); break;
        case 5: try_provision(input); break;
        case 6: try_session(input, dice); break;
        case 7: try_offer(input); break;
        case 8: {
            FakeFlash flash(512, 4);
            std::copy_n(input.begin(), std::min(input.size(), flash.bytes().size()), flash.bytes().begin());
            open_anything(flash);
            break;
        }
        default: try_node(input, input, dice);
    }
    return 0;
}

#else

namespace {

// Of a ring that has gone round.
Input some_flash() {
    FakeFlash flash(512, 4);
    store::Ring ring(flash);
    store::Record record;
    ring.open(0x9F3C21AA);
    for (unsigned count = 0; count < 70; ++count) {
        ring.append(record);
    }
    return flash.bytes();
}

// One file for each golden input and each of what reads such an input.
int write_corpus(const std::string& folder) {
    unsigned count = 0;
    const auto write = [&folder, &count](unsigned target, const std::vector<Input>& inputs) {
        for (const Input& input : inputs) {
            std::ofstream file(folder + "/" + std::to_string(count++), std::ios::binary);
            file.put(static_cast<char>(target));
            file.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
        }
    };
    write(0, golden_texts());
    write(1, golden_frames());
    write(2, golden_frames());
    write(3, golden_field("config.json", "body"));
    write(4, golden_field("commands.json", "body"));
    write(5, golden_field("provision.json", "line"));
    write(6, golden_texts());
    write(7, golden_offers());
    write(8, {some_flash()});
    write(9, golden_field("config.json", "body"));
    write(9, golden_field("commands.json", "body"));
    return count > 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
    double seconds = 5.0;
    Dice dice{1};
    for (int at = 1; at + 1 < count; at += 2) {
        if (std::strcmp(words[at], "--seconds") == 0) {
            seconds = std::atof(words[at + 1]);
        } else if (std::strcmp(words[at], "--seed") == 0) {
            dice.state = std::strtoull(words[at + 1], nullptr, 10);
        } else if (std::strcmp(words[at], "--corpus") == 0) {
            return write_corpus(words[at + 1]);
        }
    }
    const auto frames = golden_frames();
    const auto texts = golden_texts();
    const auto configs = golden_field("config.json", "body");
    const auto commands = golden_field("commands.json", "body");
    const auto lines = golden_field("provision.json", "line");
    const auto offers = golden_offers();
    const auto any_of = [&dice](const std::vector<Input>& inputs) {
        return mutated(inputs[dice.below(inputs.size())], dice);
    };
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    unsigned long long inputs = 0;
    while (std::chrono::steady_clock::now() < end) {
        for (unsigned times = 0; times < 100; ++times) {
            const Input frame = mutated(frames[dice.below(frames.size())], dice);
            const Input words_of = mutated(texts[dice.below(texts.size())], dice);
            try_frames(frame);
            try_json(words_of);
            try_slot(frame, dice);
            try_config(any_of(configs));
            try_command(any_of(commands));
            try_provision(any_of(lines));
            try_offer(any_of(offers));
            inputs += 7;
        }
        try_node(any_of(configs), dice.below(2) == 0 ? any_of(configs) : any_of(commands), dice);
        try_ring(dice);
        try_session(mutated(texts[dice.below(2)], dice), dice);
        inputs += 3;
    }
    std::printf("%llu inputs, nothing found\n", inputs);
    return 0;
}

#endif
