// Setting a node up: by lines of JSON on the serial line at any time, and by a page of its own access point where it has
// no credentials yet, or somebody holds the button while it starts.
#pragma once

#include "ct/app/provision.h"

namespace ct::esp32 {

// Lines on the serial line (115200 8N1). Polled by Arduino's own task.
class Console {
public:
    explicit Console(app::Provision& provision) : provision_(provision) {}
    void begin();
    // True: new credentials were taken.
    bool poll();

private:
    app::Provision& provision_;
    app::LineReader<app::Provision::largest_line> reader_;
};

// Opens the access point and serves the page until new credentials were taken, or `longest_ms` are over; 0: for good.
// Both need the serial line all the same, so it is polled here.
void run_access_point(app::Provision& provision, Console& console, hal::KeyValue& values, std::uint64_t longest_ms);

}  // namespace ct::esp32
