// A new program: two app partitions and the boot loader's trial, a download in a task of its own, and mbedtls.
#pragma once

#include <esp_partition.h>
#include <freertos/FreeRTOS.h>
#include <freertos/message_buffer.h>
#include <freertos/task.h>
#include <mbedtls/sha256.h>

#include <array>
#include <atomic>

#include "ct/hal/key_value.h"
#include "ct/hal/update.h"
#include "tasks.h"

namespace ct::esp32 {

// The boot loader runs a new program once; where it has not confirmed itself by the next start (whatever the reason for
// that was, a power cut too), it goes back. That is stricter than `most_trials`.
class AppSlots final : public hal::Slots {
public:
    explicit AppSlots(hal::KeyValue& values) : values_(values) {}

    std::uint32_t capacity() override;
    Running running() override;
    bool begin(std::uint32_t size, std::uint32_t from_byte) override;
    bool write(Bytes bytes) override;
    bool read(std::uint32_t at, std::uint8_t* to, std::size_t size) override;
    bool finish() override;
    bool confirm() override;
    bool go_back() override;

private:
    hal::KeyValue& values_;
    const esp_partition_t* to_ = nullptr;
    std::uint32_t size_ = 0;
    std::uint32_t at_ = 0;
    std::uint32_t erased_ = 0;  // up to here
};

// esp_http_client waits for the network, so it works in a task of its own, which is there from the first download on.
// It hands on pieces through a buffer and waits where that is full.
class HttpDownload final : public hal::Download {
public:
    struct Access {
        const char* ca = nullptr;
        const char* device_id = nullptr;
        const char* password = nullptr;
    };

    explicit HttpDownload(const Access& access) : access_(access) {}

    bool start(std::string_view url, std::uint32_t from_byte) override;
    Piece poll(std::uint8_t* to, std::size_t capacity) override;
    void stop() override { wanted_ = 0; }

    // What its task does over and over: a download that is wanted. False: there was none.
    bool work();

private:
    static constexpr std::size_t longest_url = 256;
    static constexpr std::size_t piece_size = 1024;

    struct Job {
        std::uint32_t number = 0;  // 0: none
        std::uint32_t from_byte = 0;
        std::array<char, longest_url + 1> url = {};
    };
    struct Head {
        Piece::Kind kind = Piece::Kind::nothing;
        std::uint32_t job = 0;
        std::uint32_t at = 0;
        int status = 0;
    };

    static void run(void* self);
    void fetch(const Job& job);
    bool tell(const Head& head, std::size_t size);

    const Access access_;
    Mutex mutex_;  // guards job_
    Job job_;
    std::atomic<std::uint32_t> wanted_ = 0;  // job; 0: none
    std::uint32_t jobs_ = 0;
    bool has_task_ = false;
    MessageBufferHandle_t pieces_ = nullptr;
    std::array<std::uint8_t, sizeof(Head) + piece_size> told_ = {};        // of the task
    std::array<std::uint8_t, sizeof(Head) + piece_size> handed_out_ = {};  // of the node
    std::size_t handed_out_size_ = 0;  // of bytes that are left of it
    std::size_t handed_out_at_ = 0;
};

class MbedCrypto final : public hal::Crypto {
public:
    void begin_hash() override;
    void add(Bytes bytes) override;
    void end_hash(std::uint8_t (&to)[hash_size]) override;
    bool is_signed(std::string_view key, std::string_view text, Bytes signature) override;

private:
    mbedtls_sha256_context hash_ = {};
    bool is_hashing_ = false;
};

}  // namespace ct::esp32
