#include "ct/signal/window.h"

#include <cmath>

#include "ct/emission/rate.h"

namespace ct::signal {

namespace {

using Values = std::array<float, Window::most>;

// Sorts the few values that there are; their order is not needed any more.
float median_of(Values values, std::size_t count) {
    for (std::size_t end = 1; end < count; ++end) {
        const float value = values[end];
        std::size_t at = end;
        for (; at > 0 && values[at - 1] > value; --at) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
    const float upper = values[count / 2];
    return count % 2 == 1 ? upper : (values[count / 2 - 1] + upper) / 2.0F;
}

}  // namespace

Window::Settled Window::settle(float least_spread) {
    constexpr float scaled = 1.4826F;  // of a normal distribution, the standard deviation over the median deviation
    const std::size_t count = count_;
    count_ = 0;
    if (count == 0) {
        return {missing, 0};
    }
    const float median = median_of(values_, count);
    Values deviations = {};
    for (std::size_t at = 0; at < count; ++at) {
        deviations[at] = std::fabs(values_[at] - median);
    }
    const float deviation = scaled * median_of(deviations, count);
    const float limit = 3.0F * (deviation > least_spread ? deviation : least_spread);
    float sum = 0.0F;
    unsigned inliers = 0;
    for (std::size_t at = 0; at < count; ++at) {
        if (deviations[at] <= limit) {
            sum += values_[at];
            ++inliers;
        }
    }
    return {sum / static_cast<float>(inliers), static_cast<unsigned>(count) - inliers};
}

}  // namespace ct::signal
