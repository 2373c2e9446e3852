// NOR flash in memory that keeps the rules of the real one, and loses its power where a test says so.
#pragma once

#include <algorithm>
#include <vector>

#include "ct/hal/flash.h"

namespace ct::test {

class FakeFlash final : public hal::Flash {
public:
    FakeFlash(std::uint32_t sector_size, std::uint32_t sectors)
        : geometry_{sector_size, sectors}, bytes_(std::size_t{sector_size} * sectors, 0xFF), erasures_(sectors, 0) {}

    // What is left of the operation during which the power goes.
    enum class Tear { nothing_done, first_half, all_but_last_byte, random_bits, all_done };
    static constexpr Tear tears[] = {Tear::nothing_done, Tear::first_half, Tear::all_but_last_byte, Tear::random_bits,
                                     Tear::all_done};

    void cut_at(std::uint64_t operation, Tear tear) {
        cut_at_ = operation;
        tear_ = tear;
    }
    void power_on() {
        is_off_ = false;
        cut_at_ = never;
    }
    bool is_off() const { return is_off_; }
    std::uint64_t operations() const { return operations_; }
    const std::vector<unsigned>& erasures() const { return erasures_; }
    std::vector<std::uint8_t>& bytes() { return bytes_; }
    bool reads_fail = false;
    int failing_sector = -1;  // erasing and writing there does nothing and says so
    bool broke_a_rule = false;

    hal::FlashGeometry geometry() const override { return geometry_; }

    bool read(std::uint32_t address, std::uint8_t* to, std::size_t size) override {
        if (is_off_ || reads_fail) {
            return false;
        }
        std::copy_n(bytes_.data() + address, size, to);
        return true;
    }

    bool write(std::uint32_t address, Bytes bytes) override {
        if (is_off_ || is_in_failing(address / geometry_.sector_size)) {
            return false;
        }
        const bool is_cut = operations_++ == cut_at_;
        for (std::size_t at = 0; at < bytes.size; ++at) {
            std::uint8_t& there = bytes_[address + at];
            broke_a_rule = broke_a_rule || (bytes[at] & ~there) != 0;  // a bit that only erasing could set
            const auto wanted = static_cast<std::uint8_t>(there & bytes[at]);
            there = is_cut ? torn(there, wanted, at, bytes.size) : wanted;
        }
        is_off_ = is_cut;
        return !is_cut;
    }

    bool erase(std::uint32_t sector) override {
        if (is_off_ || is_in_failing(sector)) {
            return false;
        }
        const bool is_cut = operations_++ == cut_at_;
        ++erasures_[sector];
        for (std::size_t at = 0; at < geometry_.sector_size; ++at) {
            std::uint8_t& there = bytes_[std::size_t{sector} * geometry_.sector_size + at];
            there = is_cut ? torn(there, 0xFF, at, geometry_.sector_size) : 0xFF;
        }
        is_off_ = is_cut;
        return !is_cut;
    }

private:
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    bool is_in_failing(std::uint32_t sector) const { return static_cast<int>(sector) == failing_sector; }

    std::uint8_t torn(std::uint8_t before, std::uint8_t after, std::size_t at, std::size_t size) {
        switch (tear_) {
            case Tear::nothing_done: return before;
            case Tear::first_half: return at < size / 2 ? after : before;
            case Tear::all_but_last_byte: return at + 1 < size ? after : before;
            case Tear::all_done: return after;
            case Tear::random_bits: break;
        }
        state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
        const auto mask = static_cast<unsigned>(state_ >> 56);
        return static_cast<std::uint8_t>((before & mask) | (after & ~mask));
    }

    hal::FlashGeometry geometry_;
    std::vector<std::uint8_t> bytes_;
    std::vector<unsigned> erasures_;
    std::uint64_t operations_ = 0;
    std::uint64_t cut_at_ = never;
    Tear tear_ = Tear::nothing_done;
    std::uint64_t state_ = 1;
    bool is_off_ = false;
};

}  // namespace ct::test
