// Fetches a file by libcurl, in small pieces, without a thread and without waiting.
#pragma once

#include <string>

#include <curl/curl.h>

#include "ct/hal/update.h"

namespace ct::posix {

struct ServerAccess {
    std::string ca_file;       // empty: the system's
    std::string device_id;
    std::string password;
    bool is_plain = false;     // http is good enough
};

class CurlDownload final : public hal::Download {
public:
    explicit CurlDownload(ServerAccess access);
    ~CurlDownload();
    CurlDownload(const CurlDownload&) = delete;
    CurlDownload& operator=(const CurlDownload&) = delete;

    bool start(std::string_view url, std::uint32_t from_byte) override;
    Piece poll(std::uint8_t* to, std::size_t capacity) override;
    void stop() override;

private:
    static std::size_t on_header(char* line, std::size_t size, std::size_t count, void* self);
    static std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* self);
    std::size_t take_body(const char* bytes, std::size_t size);
    bool set_up(const std::string& url, std::uint32_t from_byte);
    void look_whether_done();

    const ServerAccess access_;
    CURLM* many_;
    CURL* one_ = nullptr;
    std::string waiting_;      // came, and nobody has asked for it yet
    bool is_paused_ = false;
    bool is_begun_ = false;    // the body, at a place that is known
    bool is_done_ = false;
    bool is_whole_ = false;    // as far as HTTP knows
    long status_ = 0;
    unsigned long range_ = 0;  // where the server says that its answer begins
    bool has_range_ = false;
    std::uint32_t at_ = 0;
};

}  // namespace ct::posix
