// The readings of one value between two records: what is far from their median is left out, the rest is averaged.
#pragma once

#include <array>
#include <cstddef>

namespace ct::signal {

class Window {
public:
    static constexpr std::size_t most = 16;

    struct Settled {
        float value;        // NaN where there was no reading
        unsigned outliers;  // readings that were left out
    };

    // One more reading; beyond `most` the newest ones are dropped.
    void add(float value) {
        if (count_ < most) {
            values_[count_++] = value;
        }
    }
    bool is_empty() const { return count_ == 0; }

    // The mean of what is within three scaled median deviations of the median (Hampel), and the window is empty again.
    // `least_spread`: the values' own resolution. Readings so near to each other are never outliers.
    Settled settle(float least_spread);

private:
    std::array<float, most> values_ = {};
    std::size_t count_ = 0;
};

}  // namespace ct::signal
