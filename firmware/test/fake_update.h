// A node that can be updated, its boot loader, its power, and the server with the image, in a test's hands.
#pragma once

#include <array>

#include "ct/app/update.h"
#include "node_world.h"

namespace ct::test {

// No real hash: four times FNV-1a, each begun otherwise. It tells texts apart, and that is all that it is for.
class FakeCrypto final : public hal::Crypto {
public:
    static std::vector<std::uint8_t> hash(const std::string& text) {
        FakeCrypto crypto;
        std::uint8_t found[hash_size];
        crypto.begin_hash();
        crypto.add({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        crypto.end_hash(found);
        return {found, found + hash_size};
    }
    void begin_hash() override { state_ = {1, 2, 3, 4}; }
    void add(Bytes bytes) override {
        for (std::size_t at = 0; at < bytes.size; ++at) {
            for (std::uint64_t& word : state_) {
                word = (word ^ bytes[at]) * 1099511628211ULL + 11400714819323198485ULL;
            }
        }
    }
    void end_hash(std::uint8_t (&to)[hash_size]) override {
        for (std::size_t word = 0; word < state_.size(); ++word) {
            put_le(to + 8 * word, state_[word]);
        }
    }
    bool is_signed(std::string_view key, std::string_view text, Bytes signature) override {
        const auto right = hash(std::string(key) + std::string(text));
        return std::vector<std::uint8_t>(signature.data, signature.data + signature.size) == right;
    }

private:
    std::array<std::uint64_t, 4> state_ = {};
};

// Two programs. Each write counts as one of the values', so that one counter says when the power goes.
class FakeSlots final : public hal::Slots {
public:
    explicit FakeSlots(FakeValues& values) : values_(values) {}

    std::array<std::string, 2> images;
    unsigned active = 0;
    Running state = Running::confirmed;
    unsigned starts = 0;
    unsigned own = 0;  // that runs
    bool refuses = false;
    std::uint32_t room = 1 << 20;

    // The boot loader. True: it is the first start of another program.
    bool boot() {
        if (state == Running::on_trial && starts >= most_trials) {
            active ^= 1;
            state = Running::came_back;
            starts = 0;
        }
        const bool is_first = state != Running::confirmed && starts++ == 0;
        own = active;
        running_ = state;
        return is_first;
    }

    std::uint32_t capacity() override { return room; }
    Running running() override { return running_; }
    bool begin(std::uint32_t size, std::uint32_t from_byte) override {
        std::string& image = images[own ^ 1];
        if (from_byte % resume_step != 0 || from_byte > image.size() || !spend()) {
            return false;
        }
        size_ = size;
        image.resize(from_byte);
        return true;
    }
    bool write(Bytes bytes) override {
        std::string& image = images[own ^ 1];
        const bool is_done = spend();
        const std::size_t size = is_done ? bytes.size : is_cut_now_ ? bytes.size / 2 : 0;
        image.append(reinterpret_cast<const char*>(bytes.data), size);
        return is_done && !values_.is_off && image.size() <= size_;
    }
    bool read(std::uint32_t at, std::uint8_t* to, std::size_t size) override {
        const std::string& image = images[own ^ 1];
        if (values_.is_off || at + size > image.size()) {
            return false;
        }
        std::copy_n(image.data() + at, size, reinterpret_cast<char*>(to));
        return true;
    }
    bool finish() override { return images[own ^ 1].size() == size_ && turn(own ^ 1, Running::on_trial); }
    bool confirm() override { return turn(own, Running::confirmed); }
    bool go_back() override { return turn(own ^ 1, Running::came_back); }

private:
    bool turn(unsigned to, Running how) {
        if (!spend()) {
            return false;
        }
        active = to;
        state = how;
        starts = 0;
        return !values_.is_off;
    }
    // Whether what is written now gets done.
    bool spend() {
        const bool was_off = values_.is_off;
        const bool is_done = values_.set("tick", {}) || (!was_off && values_.is_off && values_.is_done_at_cut);
        is_cut_now_ = !was_off && values_.is_off;
        return is_done && !refuses;
    }

    FakeValues& values_;
    Running running_ = Running::confirmed;
    std::uint32_t size_ = 0;
    bool is_cut_now_ = false;
};

class FakeDownload final : public hal::Download {
public:
    std::string content;
    int status = 206;
    bool ignores_range = false;
    std::size_t cut_after = ~std::size_t{0};  // bytes of an answer; then the link is lost
    bool ends_early = false;                  // and then it is not lost: the answer is over
    std::uint32_t shift = 0;                  // begins so much later than it was asked to
    bool is_silent = false;
    std::vector<std::uint32_t> requests;      // from which byte
    std::string url;
    std::size_t piece = 1500;

    bool start(std::string_view address, std::uint32_t from_byte) override {
        url = address;
        if (url.find("never") != std::string::npos) {
            return false;
        }
        requests.push_back(from_byte);
        at_ = ignores_range ? 0 : from_byte + shift;
        given_ = 0;
        is_running_ = true;
        return true;
    }
    Piece poll(std::uint8_t* to, std::size_t capacity) override {
        Piece found;
        if (!is_running_ || status >= 300 || status == 0) {
            found.kind = Piece::Kind::failed;
            found.status = status;
        } else if (is_silent) {
            found.kind = Piece::Kind::nothing;
        } else if (given_ >= cut_after) {
            found.kind = ends_early ? Piece::Kind::end : Piece::Kind::failed;
        } else if (at_ >= content.size()) {
            found.kind = Piece::Kind::end;
        } else {
            found.kind = Piece::Kind::bytes;
            found.at = at_;
            found.size = std::min({capacity, piece, content.size() - at_, cut_after - given_});
            std::copy_n(content.data() + at_, found.size, reinterpret_cast<char*>(to));
            at_ += static_cast<std::uint32_t>(found.size);
            given_ += found.size;
        }
        return found;
    }
    void stop() override { is_running_ = false; }
    bool is_running() const { return is_running_; }

private:
    bool is_running_ = false;
    std::uint32_t at_ = 0;
    std::size_t given_ = 0;
};

inline std::string hex(const std::vector<std::uint8_t>& bytes) {
    std::string text;
    for (const std::uint8_t byte : bytes) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

inline std::string base64(std::vector<std::uint8_t> bytes) {
    constexpr const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const std::size_t padding = (3 - bytes.size() % 3) % 3;
    bytes.resize(bytes.size() + padding);
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const std::uint32_t bits = get_be<std::uint32_t>(bytes.data() + at, 3);
        for (int shift = 18; shift >= 0; shift -= 6) {
            text += digits[bits >> shift & 63];
        }
    }
    text.replace(text.size() - padding, padding, std::string(padding, '='));
    return text;
}

// An image says in its first line which version it is and what is wrong with it.
inline std::string image_of(const std::string& version, const std::string& fault = "-", std::size_t size = 200000) {
    std::string image = version + " " + fault + "\n";
    std::uint32_t state = static_cast<std::uint32_t>(size);
    while (image.size() < size) {
        state = state * 1664525 + 1013904223;
        image += static_cast<char>(state >> 24);
    }
    return image;
}

struct Offered {
    std::string version;
    std::string hardware = "ct-1";
    std::string url = "https://core.example.org/image";
    std::string sha256;
    std::string key = "the key";
    std::string more;  // further members, each with a comma before it
    std::size_t size = 0;

    Offered(std::string of, const std::string& image)
        : version(std::move(of)), sha256(hex(FakeCrypto::hash(image))), size(image.size()) {}

    std::string body() const {
        const std::string text = "CARBONTRACK-FIRMWARE-1\n" + version + "\n" + hardware + "\n" + std::to_string(size) +
                                 "\n" + sha256 + "\n";
        return R"({"v":1,"ver":")" + version + R"(","hw":")" + hardware + R"(","url":")" + url + R"(","size":)" +
               std::to_string(size) + R"(,"sha256":")" + sha256 + R"(","sig":")" +
               base64(FakeCrypto::hash(key + text)) + "\"" + more + "}";
    }
};

struct UpdateWorld : NodeWorld {
    FakeSlots slots = FakeSlots(values);
    FakeDownload download;
    FakeCrypto crypto;
    std::optional<app::Update> update;
    std::string running;             // the version that runs
    std::string hardware = "ct-1";
    std::string offer;               // what the platform says at each birth
    bool receipts = true;            // and whether it has receipts to give
    bool was_running = false;
    unsigned boots = 0, crashes = 0;
    std::vector<std::string> told;   // "state version error", one after the other, without repetitions

    explicit UpdateWorld(const std::string& version = "1.4.0") {
        slots.images[0] = image_of(version);
        const std::string key = "the key";
        values.set("firmware_key", {reinterpret_cast<const std::uint8_t*>(key.data()), key.size()});
    }

    // As the machine starts. What crashes is started again, as by a watchdog.
    void boot(hal::ResetCause cause = hal::ResetCause::poweron) {
        listen();
        std::string fault;
        while (true) {
            const bool is_first = slots.boot();
            std::istringstream first_line(slots.images[slots.own]);
            first_line >> running >> fault;
            cause = is_first ? hal::ResetCause::ota : cause;
            ++boots;
            if (fault != "crashes") {
                break;
            }
            ++crashes;
            cause = hal::ResetCause::panic;
            REQUIRE(crashes < 100);
        }
        heard_ = 0;
        REQUIRE(NodeWorld::start(cause));
        mqtt.accepts = fault != "deaf";
        app::UpdateSettings settings_of_update;
        settings_of_update.version = running;
        settings_of_update.hardware = hardware;
        download.stop();
        update.emplace(app::UpdateEdges{slots, download, crypto, values, random}, settings_of_update,
                       node->session().room());
        update->open();
        node->set_updates(&*update);
        was_running = false;
    }

    // False: the power went.
    bool run(std::uint64_t ms, std::uint64_t step_ms = 100) {
        for (std::uint64_t passed = 0; passed < ms; passed += step_ms) {
            NodeWorld::pass(step_ms, step_ms);
            update->step(*node, now_ms);
            if (values.is_off) {
                return false;
            }
            answer();
            if (machine.reboots > 0) {
                boot(hal::ResetCause::software);
            }
        }
        listen();
        return true;
    }

    void answer() {
        const bool is_running = node->session().is_running();
        if (is_running && !was_running) {
            if (receipts) {
                char sid[9];
                wire::write_sid(sid, node->ring().sid());
                mqtt.receipt(sid, node->ring().watermark());
            }
            if (!offer.empty()) {
                mqtt.say("ct/v1/dev-001/dn/fw", offer);
            }
        }
        was_running = is_running;
    }

    void say_offer(const std::string& body) {
        mqtt.say("ct/v1/dev-001/dn/fw", body);
        run(100);
    }

    void listen() {
        for (; heard_ < mqtt.sent.size(); ++heard_) {
            const Sent& message = mqtt.sent[heard_];
            if (!message.is_on("up/res")) {
                continue;
            }
            const json::Value body = message.json();
            std::string line = text(body, "st") + " " + text(body, "ver");
            line += text(body, "err").empty() ? "" : " " + text(body, "err");
            if (told.empty() || told.back() != line) {
                told.push_back(line);
            }
        }
    }
    std::string last_told() const { return told.empty() ? "" : told.back(); }
    bool has_told(const std::string& line) const { return std::find(told.begin(), told.end(), line) != told.end(); }

private:
    std::size_t heard_ = 0;
};

}  // namespace ct::test
