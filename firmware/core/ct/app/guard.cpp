#include "ct/app/guard.h"

namespace ct::app {

namespace {

constexpr const char* name = "crashes";
constexpr std::uint64_t steady_ms = 600ULL * 1000;
constexpr std::uint64_t safe_ms = 3600ULL * 1000;

}  // namespace

void Guard::begin(hal::ResetCause cause) {
    kept_ = 0;
    if (values_.get(name, &kept_, 1) != std::size_t{1}) {
        kept_ = 0;
    }
    crashes_ = kept_;
    switch (cause) {
        case hal::ResetCause::panic:
        case hal::ResetCause::watchdog:
            crashes_ = static_cast<std::uint8_t>(crashes_ < 0xFF ? crashes_ + 1 : crashes_);
            break;
        case hal::ResetCause::brownout: break;  // the mains, and no fault of the node's
        case hal::ResetCause::poweron:
        case hal::ResetCause::software:
        case hal::ResetCause::ota: crashes_ = 0; break;
    }
    write(crashes_);
}

bool Guard::step(std::uint64_t now_ms) {
    if (is_safe_mode()) {
        if (now_ms >= safe_ms && !has_asked_) {
            has_asked_ = true;
            forget();
            return true;
        }
    } else if (now_ms >= steady_ms && crashes_ > 0) {
        crashes_ = 0;
        write(0);
    }
    return false;
}

void Guard::forget() { write(0); }

bool Guard::write(std::uint8_t crashes) {
    if (crashes == kept_) {
        return true;
    }
    if (!values_.set(name, {&crashes, 1})) {
        return false;
    }
    kept_ = crashes;
    return true;
}

}  // namespace ct::app
