#include "curl_download.h"

#include <strings.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace ct::posix {

namespace {

constexpr std::size_t enough = 64 * 1024;  // waiting; then the server waits
constexpr long connect_s = 30;
constexpr long silent_s = 60;
constexpr long ok = 200, partial = 206;

}  // namespace

CurlDownload::CurlDownload(ServerAccess access) : access_(std::move(access)) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    many_ = curl_multi_init();
}

CurlDownload::~CurlDownload() {
    stop();
    curl_multi_cleanup(many_);
    curl_global_cleanup();
}

bool CurlDownload::set_up(const std::string& url, std::uint32_t from_byte) {
    const std::string range = std::to_string(from_byte) + "-";
    const auto set = [this](CURLoption option, auto value) { return curl_easy_setopt(one_, option, value) == CURLE_OK; };
#if LIBCURL_VERSION_NUM >= 0x075500
    const bool is_limited = set(CURLOPT_PROTOCOLS_STR, access_.is_plain ? "http,https" : "https");
#else
    const bool is_limited = set(CURLOPT_PROTOCOLS, long{access_.is_plain ? CURLPROTO_HTTP | CURLPROTO_HTTPS : CURLPROTO_HTTPS});
#endif
    return is_limited && set(CURLOPT_URL, url.c_str()) && set(CURLOPT_RANGE, range.c_str()) &&
           set(CURLOPT_HTTPAUTH, long{CURLAUTH_BASIC}) && set(CURLOPT_USERNAME, access_.device_id.c_str()) &&
           set(CURLOPT_PASSWORD, access_.password.c_str()) && set(CURLOPT_FOLLOWLOCATION, 0L) &&
           set(CURLOPT_NOSIGNAL, 1L) && set(CURLOPT_CONNECTTIMEOUT, connect_s) && set(CURLOPT_LOW_SPEED_LIMIT, 1L) &&
           set(CURLOPT_LOW_SPEED_TIME, silent_s) && set(CURLOPT_USERAGENT, "carbontrack-node") &&
           set(CURLOPT_NETRC, long{CURL_NETRC_IGNORED}) && set(CURLOPT_HEADERFUNCTION, &CurlDownload::on_header) &&
           set(CURLOPT_HEADERDATA, static_cast<void*>(this)) && set(CURLOPT_WRITEFUNCTION, &CurlDownload::on_body) &&
           set(CURLOPT_WRITEDATA, static_cast<void*>(this)) &&
           (access_.ca_file.empty() || set(CURLOPT_CAINFO, access_.ca_file.c_str()));
}

bool CurlDownload::start(std::string_view url, std::uint32_t from_byte) {
    stop();
    const std::string address(url);
    const bool is_safe = strncasecmp(address.c_str(), "https://", 8) == 0;
    one_ = is_safe || access_.is_plain ? curl_easy_init() : nullptr;
    if (one_ == nullptr || many_ == nullptr || !set_up(address, from_byte) ||
        curl_multi_add_handle(many_, one_) != CURLM_OK) {
        stop();
        return false;
    }
    return true;
}

void CurlDownload::stop() {
    if (one_ != nullptr) {
        curl_multi_remove_handle(many_, one_);
        curl_easy_cleanup(one_);
        one_ = nullptr;
    }
    waiting_.clear();
    is_paused_ = is_begun_ = is_done_ = is_whole_ = has_range_ = false;
    status_ = 0;
    at_ = 0;
}

hal::Download::Piece CurlDownload::poll(std::uint8_t* to, std::size_t capacity) {
    Piece piece;
    if (one_ == nullptr) {
        piece.kind = Piece::Kind::failed;
        return piece;
    }
    if (is_paused_ && waiting_.size() < enough) {
        is_paused_ = false;
        curl_easy_pause(one_, CURLPAUSE_CONT);
    }
    if (!is_done_ && waiting_.size() < enough) {
        int running = 0;
        curl_multi_perform(many_, &running);
        look_whether_done();
    }
    if (!waiting_.empty()) {
        piece.kind = Piece::Kind::bytes;
        piece.at = at_;
        piece.size = std::min(capacity, waiting_.size());
        std::memcpy(to, waiting_.data(), piece.size);
        waiting_.erase(0, piece.size);
        at_ += static_cast<std::uint32_t>(piece.size);
    } else if (is_done_) {
        piece.kind = is_whole_ ? Piece::Kind::end : Piece::Kind::failed;
        piece.status = status_ == ok || status_ == partial ? 0 : static_cast<int>(status_);
    }
    return piece;
}

void CurlDownload::look_whether_done() {
    int left = 0;
    while (const CURLMsg* const message = curl_multi_info_read(many_, &left)) {
        if (message->msg == CURLMSG_DONE && message->easy_handle == one_) {
            is_done_ = true;
            curl_easy_getinfo(one_, CURLINFO_RESPONSE_CODE, &status_);
            is_whole_ = message->data.result == CURLE_OK && (status_ == ok || status_ == partial);
        }
    }
}

// Content-Range: bytes 65536-1245183/1245184
std::size_t CurlDownload::on_header(char* line, std::size_t size, std::size_t count, void* self) {
    constexpr std::string_view name = "content-range: bytes ";
    auto& download = *static_cast<CurlDownload*>(self);
    const std::string text(line, size * count);
    if (text.size() > name.size() && strncasecmp(text.c_str(), name.data(), name.size()) == 0) {
        char* end = nullptr;
        download.range_ = std::strtoul(text.c_str() + name.size(), &end, 10);
        download.has_range_ = end != nullptr && *end == '-' && download.range_ <= 0x7FFFFFFF;
    }
    return size * count;
}

std::size_t CurlDownload::on_body(char* bytes, std::size_t size, std::size_t count, void* self) {
    return static_cast<CurlDownload*>(self)->take_body(bytes, size * count);
}

// What is said beside a refusal is passed over. An answer that does not say where it begins is of no use.
std::size_t CurlDownload::take_body(const char* bytes, std::size_t size) {
    if (!is_begun_) {
        curl_easy_getinfo(one_, CURLINFO_RESPONSE_CODE, &status_);
        if (status_ != ok && status_ != partial) {
            return size;
        }
        if (status_ == partial && !has_range_) {
            return 0;
        }
        is_begun_ = true;
        at_ = status_ == partial ? static_cast<std::uint32_t>(range_) : 0;
    }
    if (waiting_.size() >= enough) {
        is_paused_ = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    waiting_.append(bytes, size);
    return size;
}

}  // namespace ct::posix
