#include "update.h"

#include <esp_http_client.h>
#include <esp_ota_ops.h>
#include <mbedtls/pk.h>

#include <cstdio>
#include <cstring>

namespace ct::esp32 {

namespace {

constexpr std::uint32_t sector_size = 4096;
// There from `finish` on until the program that then runs has confirmed itself: the address of the slot on trial.
constexpr const char* trial_name = "ota_trial";

bool is_on_trial(const esp_partition_t* slot) {
    esp_ota_img_states_t state = ESP_OTA_IMG_UNDEFINED;
    return esp_ota_get_state_partition(slot, &state) == ESP_OK && state == ESP_OTA_IMG_PENDING_VERIFY;
}

}  // namespace

// --- slots

std::uint32_t AppSlots::capacity() {
    const esp_partition_t* const slot = esp_ota_get_next_update_partition(nullptr);
    return slot == nullptr ? 0 : slot->size;
}

hal::Slots::Running AppSlots::running() {
    const esp_partition_t* const here = esp_ota_get_running_partition();
    if (is_on_trial(here)) {
        return Running::on_trial;
    }
    std::uint8_t address[4] = {};
    const bool was_tried = values_.get(trial_name, address, sizeof address).value_or(0) == sizeof address;
    return was_tried && get_le<std::uint32_t>(address) != here->address ? Running::came_back : Running::confirmed;
}

// Byte by byte as it comes, and not by esp_ota_begin: that erases everything, and what is there already should stay.
bool AppSlots::begin(std::uint32_t size, std::uint32_t from_byte) {
    to_ = esp_ota_get_next_update_partition(nullptr);
    if (to_ == nullptr || size > to_->size || from_byte > size || from_byte % resume_step != 0) {
        to_ = nullptr;
        return false;
    }
    size_ = size;
    at_ = erased_ = from_byte;
    return true;
}

bool AppSlots::write(Bytes bytes) {
    if (to_ == nullptr || bytes.size > size_ - at_) {
        return false;
    }
    while (erased_ < at_ + bytes.size) {
        if (esp_partition_erase_range(to_, erased_, sector_size) != ESP_OK) {
            return false;
        }
        erased_ += sector_size;
    }
    if (esp_partition_write(to_, at_, bytes.data, bytes.size) != ESP_OK) {
        return false;
    }
    at_ += static_cast<std::uint32_t>(bytes.size);
    return true;
}

bool AppSlots::read(std::uint32_t at, std::uint8_t* to, std::size_t size) {
    const esp_partition_t* const slot = to_ != nullptr ? to_ : esp_ota_get_next_update_partition(nullptr);
    return slot != nullptr && esp_partition_read(slot, at, to, size) == ESP_OK;
}

// The SDK looks at the image once more (its own checksum and hash) before it lets the boot loader start it.
bool AppSlots::finish() {
    if (to_ == nullptr || at_ != size_) {
        return false;
    }
    std::uint8_t address[4];
    put_le(address, to_->address);
    return values_.set(trial_name, {address, sizeof address}) && esp_ota_set_boot_partition(to_) == ESP_OK;
}

bool AppSlots::confirm() {
    const bool is_kept = !is_on_trial(esp_ota_get_running_partition()) || esp_ota_mark_app_valid_cancel_rollback() == ESP_OK;
    return is_kept && values_.erase(trial_name);
}

// A program on trial that starts again without having confirmed itself is left by the boot loader: there is nothing to do.
bool AppSlots::go_back() { return is_on_trial(esp_ota_get_running_partition()); }

// --- download

bool HttpDownload::start(std::string_view url, std::uint32_t from_byte) {
    constexpr std::string_view scheme = "https://";  // the password goes with it
    constexpr std::size_t buffer = 6 * 1024;
    constexpr std::uint32_t stack = 8192;
    if (url.size() > longest_url || url.substr(0, scheme.size()) != scheme || access_.ca == nullptr) {
        return false;
    }
    if (!has_task_) {
        pieces_ = xMessageBufferCreate(buffer);
        has_task_ = pieces_ != nullptr &&
                    xTaskCreatePinnedToCore(run, "download", stack, this, 2, nullptr, 0) == pdPASS;
        if (!has_task_) {
            return false;
        }
    }
    mutex_.take();
    job_.number = ++jobs_;
    job_.from_byte = from_byte;
    std::memcpy(job_.url.data(), url.data(), url.size());
    job_.url[url.size()] = '\0';
    wanted_ = job_.number;
    mutex_.give();
    handed_out_size_ = 0;
    return true;
}

hal::Download::Piece HttpDownload::poll(std::uint8_t* to, std::size_t capacity) {
    Piece piece;
    Head head;
    while (handed_out_size_ == 0) {
        const std::size_t size =
            pieces_ == nullptr ? 0 : xMessageBufferReceive(pieces_, handed_out_.data(), handed_out_.size(), 0);
        if (size < sizeof head) {
            return piece;
        }
        std::memcpy(&head, handed_out_.data(), sizeof head);
        if (head.job != wanted_) {
            continue;  // of a download that nobody wants any more
        }
        if (head.kind != Piece::Kind::bytes) {
            piece.kind = head.kind;
            piece.status = head.status;
            return piece;
        }
        handed_out_at_ = sizeof head;
        handed_out_size_ = size - sizeof head;
    }
    std::memcpy(&head, handed_out_.data(), sizeof head);
    piece.kind = Piece::Kind::bytes;
    piece.at = head.at + static_cast<std::uint32_t>(handed_out_at_ - sizeof head);
    piece.size = handed_out_size_ < capacity ? handed_out_size_ : capacity;
    std::memcpy(to, handed_out_.data() + handed_out_at_, piece.size);
    handed_out_at_ += piece.size;
    handed_out_size_ -= piece.size;
    return piece;
}

void HttpDownload::run(void* self) {
    while (true) {
        if (!static_cast<HttpDownload*>(self)->work()) {
            vTaskDelay(pdMS_TO_TICKS(200));
        }
    }
}

bool HttpDownload::work() {
    mutex_.take();
    const Job job = job_;
    job_.number = 0;
    mutex_.give();
    if (job.number == 0 || job.number != wanted_) {
        return false;
    }
    fetch(job);
    return true;
}

// False: nobody wants it any more.
bool HttpDownload::tell(const Head& head, std::size_t size) {
    std::memcpy(told_.data(), &head, sizeof head);
    while (head.job == wanted_) {
        if (xMessageBufferSend(pieces_, told_.data(), sizeof head + size, pdMS_TO_TICKS(200)) != 0) {
            return true;
        }
    }
    return false;
}

void HttpDownload::fetch(const Job& job) {
    constexpr int whole = 200, part = 206, timeout_ms = 15000;
    esp_http_client_config_t config = {};
    config.url = job.url.data();
    config.username = access_.device_id;
    config.password = access_.password;
    config.auth_type = HTTP_AUTH_TYPE_BASIC;
    config.cert_pem = access_.ca;
    config.timeout_ms = timeout_ms;
    config.disable_auto_redirect = true;
    Head head;
    head.job = job.number;
    head.kind = Piece::Kind::failed;
    esp_http_client_handle_t client = esp_http_client_init(&config);
    std::array<char, 32> range;
    std::snprintf(range.data(), range.size(), "bytes=%u-", static_cast<unsigned>(job.from_byte));
    if (client != nullptr && (job.from_byte == 0 || esp_http_client_set_header(client, "Range", range.data()) == ESP_OK) &&
        esp_http_client_open(client, 0) == ESP_OK) {
        esp_http_client_fetch_headers(client);
        const int status = esp_http_client_get_status_code(client);
        head.status = status == whole || status == part ? 0 : status;
        head.at = status == part ? job.from_byte : 0;
        int got = 0;
        bool is_wanted = status == whole || status == part;
        while (is_wanted && (got = esp_http_client_read(client, reinterpret_cast<char*>(told_.data()) + sizeof head,
                                                        static_cast<int>(piece_size))) > 0) {
            head.kind = Piece::Kind::bytes;
            is_wanted = tell(head, static_cast<std::size_t>(got));
            head.at += static_cast<std::uint32_t>(got);
        }
        const bool is_end = is_wanted && got == 0 && esp_http_client_is_complete_data_received(client);
        head.kind = is_end ? Piece::Kind::end : Piece::Kind::failed;
    }
    if (client != nullptr) {
        esp_http_client_cleanup(client);
    }
    tell(head, 0);
}

// --- crypto

void MbedCrypto::begin_hash() {
    if (is_hashing_) {
        mbedtls_sha256_free(&hash_);  // the one before was given up
    }
    is_hashing_ = true;
    mbedtls_sha256_init(&hash_);
    mbedtls_sha256_starts(&hash_, 0);
}

void MbedCrypto::add(Bytes bytes) { mbedtls_sha256_update(&hash_, bytes.data, bytes.size); }

void MbedCrypto::end_hash(std::uint8_t (&to)[hash_size]) {
    mbedtls_sha256_finish(&hash_, to);
    mbedtls_sha256_free(&hash_);
    is_hashing_ = false;
}

bool MbedCrypto::is_signed(std::string_view key, std::string_view text, Bytes signature) {
    constexpr std::size_t p256_bits = 256;
    std::array<unsigned char, 1024 + 1> pem;  // with the zero at its end that mbedtls wants
    if (key.size() >= pem.size()) {
        return false;
    }
    std::memcpy(pem.data(), key.data(), key.size());
    pem[key.size()] = '\0';
    std::array<unsigned char, hash_size> hash;
    mbedtls_pk_context parsed;
    mbedtls_pk_init(&parsed);
    const bool is_right =
        mbedtls_sha256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data(), 0) == 0 &&
        mbedtls_pk_parse_public_key(&parsed, pem.data(), key.size() + 1) == 0 &&
        mbedtls_pk_can_do(&parsed, MBEDTLS_PK_ECDSA) != 0 && mbedtls_pk_get_bitlen(&parsed) == p256_bits &&
        mbedtls_pk_verify(&parsed, MBEDTLS_MD_SHA256, hash.data(), hash.size(), signature.data, signature.size) == 0;
    mbedtls_pk_free(&parsed);
    return is_right;
}

}  // namespace ct::esp32
