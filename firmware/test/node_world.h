// A whole node with everything around it in a test's hands: sensors, broker, flash, values, lamp and buzzer.
#pragma once

#include <doctest/doctest.h>

#include <deque>

#include "boiler_day.h"
#include "ct/app/node.h"
#include "fake_flash.h"
#include "fakes.h"

namespace ct::test {

class FakeHead final : public hal::Calibration {
public:
    bool takes = true;
    std::vector<float> told;  // 0 for zero
    bool zero() override {
        told.push_back(0.0F);
        return takes;
    }
    bool span(float ppm) override {
        told.push_back(ppm);
        return takes;
    }
};

struct NodeWorld {
    FakeFlash flash = FakeFlash(4096, 40);
    FakeValues values;
    FakeMqtt mqtt;
    FakeRandom random;
    FakeWall wall;
    FakeMachine machine;
    FakeSignals signals;
    FakeHead head;
    bool has_head = false;
    app::Settings settings;
    wire::Site site;
    std::uint64_t now_ms = 0;
    std::deque<FakeSource> sources;
    std::vector<sensors::Driver> drivers;
    std::optional<app::Node> node;

    NodeWorld() {
        wall.now_ms = 1795433047123;
        settings.warm_up_ms = 0;
        site.pressure_kpa = 79.5F;
    }

    // As after the power has come back, or a crash: what is kept is as it was.
    bool start(hal::ResetCause cause = hal::ResetCause::poweron) {
        machine.cause = cause;
        machine.reboots = 0;
        mqtt = FakeMqtt();
        signals = FakeSignals();
        net::Settings net;
        net.device_id = "dev-001";
        node.emplace(app::Edges{flash, values, mqtt, random, wall, machine, signals}, site, settings, net);
        sources.clear();
        drivers.clear();
        for (const char* name : {"ndir20", "max31856", "sdp8xx"}) {
            sensors::Driver driver;
            posix::driver_of(name, driver);
            sources.emplace_back();
            drivers.push_back(driver);
            node->add_sensor({driver, &sources.back(), has_head ? &head : nullptr});
        }
        see({98000.0, 183.25, 4.12});
        now_ms = 0;
        return node->begin(0);
    }
    void see(const posix::Flue& flue) {
        for (std::size_t which = 0; which < sources.size(); ++which) {
            sources[which].frame = posix::frame_of(drivers[which], flue, 79.5, 0.0);
        }
    }
    void pass(std::uint64_t ms, std::uint64_t step_ms = 100) {
        for (const std::uint64_t end = now_ms + ms; now_ms < end;) {
            now_ms += step_ms;
            wall.now_ms += step_ms;
            node->step(now_ms);
        }
    }
    void say(const char* channel, const std::string& body) {
        mqtt.say(std::string("ct/v1/dev-001/dn/") + channel, body);
        pass(100);
    }
    // The platform has everything that was sent.
    void receipt() {
        char sid[9];
        wire::write_sid(sid, node->ring().sid());
        mqtt.receipt(sid, node->ring().next_seq() - 1);
        pass(100);
    }
    // The newest message on a channel; nothing where there is none.
    std::string newest(const char* channel) const {
        const auto all = mqtt.on(channel);
        return all.empty() ? std::string() : all.back().body;
    }
    template <typename Content>
    std::vector<Content> records() {
        std::vector<Content> found;
        store::Ring::Cursor cursor;
        store::Record record;
        while (node->ring().next(cursor, record)) {
            if (const auto* content = std::get_if<Content>(&record.content)) {
                found.push_back(*content);
            }
        }
        return found;
    }
    std::vector<std::uint16_t> cfgs() {
        std::vector<std::uint16_t> found;
        store::Ring::Cursor cursor;
        store::Record record;
        while (node->ring().next(cursor, record)) {
            if (record.content.index() == 0) {
                found.push_back(record.cfg);
            }
        }
        return found;
    }
};

}  // namespace ct::test
