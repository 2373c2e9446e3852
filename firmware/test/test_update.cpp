#include "fake_update.h"

#include "ct/wire/version.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("update");

namespace {

constexpr std::uint32_t resume_step = hal::Slots::resume_step;
constexpr std::uint64_t minute = 60000;

// A node on 1.4.0 with a connection, and 1.5.0 on the server.
struct Ready : UpdateWorld {
    std::string image;
    explicit Ready(const std::string& fault = "-", std::size_t size = 200000) : image(image_of("1.5.0", fault, size)) {
        download.content = image;
        boot();
        run(5000);
    }
    Offered offered() const { return {"1.5.0", image}; }
};

std::string refused(const Offered& offered) {
    Ready world;
    world.say_offer(offered.body());
    world.run(5000);
    CHECK(world.download.requests.empty());
    CHECK(world.running == "1.4.0");
    return world.last_told();
}

}  // namespace

// --- versions and offers

TEST_CASE("versions are ordered as semver.org says") {
    const char* const in_order[] = {"0.9.9",        "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
                                    "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",  "1.0.0",            "1.0.1",
                                    "1.2.0",        "1.10.0",      "2.0.0-1",       "2.0.0-a",          "2.0.0",
                                    "99999999999.0.0"};
    for (std::size_t left = 0; left < std::size(in_order); ++left) {
        REQUIRE(wire::is_version(in_order[left]));
        for (std::size_t right = 0; right < std::size(in_order); ++right) {
            CAPTURE(in_order[left]);
            CAPTURE(in_order[right]);
            const int order = wire::compare_versions(in_order[left], in_order[right]);
            CHECK((order < 0) == (left < right));
            CHECK((order == 0) == (left == right));
        }
    }
    CHECK(wire::compare_versions("1.0.0+one", "1.0.0+two") == 0);
    CHECK(wire::compare_versions("1.0.0-a+one", "1.0.0-a") == 0);
}

TEST_CASE("what is no version is told apart") {
    for (const char* text : {"1.0.0", "0.0.0", "1.2.3-x.7.z.92", "1.2.3-0a", "1.2.3+001", "1.2.3-a-b+c-d"}) {
        CHECK_MESSAGE(wire::is_version(text), text);
    }
    for (const char* text : {"", "1", "1.0", "1.0.", "1.0.0.0", "v1.0.0", "01.0.0", "1.00.0", "1.0.0-", "1.0.0-a..b",
                             "1.0.0-01", "1.0.0+", "1.0.0-a_b", "1.0.0 ", "-1.0.0", "1.0.0-123456789012345678901234567"}) {
        CHECK_MESSAGE(!wire::is_version(text), text);
    }
}

TEST_CASE("an offer is read with everything in it") {
    Offered offered("1.5.0-rc.1", "image");
    offered.more = R"(,"jitter_s":600,"min":"1.3.0","force":true,"later":[1])";
    const std::string body = offered.body();
    const wire::Offer found = wire::read_offer(body);
    REQUIRE(found.kind == wire::Offer::Kind::image);
    CHECK(found.version == "1.5.0-rc.1");
    CHECK(found.hardware == "ct-1");
    CHECK(found.url == "https://core.example.org/image");
    CHECK(found.size == 5);
    CHECK(found.sha256_hex == offered.sha256);
    CHECK(found.signature_size == 32);
    CHECK(found.jitter_s == 600);
    CHECK(found.least == "1.3.0");
    CHECK(found.is_forced);
    std::array<char, 256> buffer;
    json::Writer out(buffer.data(), buffer.size());
    wire::write_signed_text(out, found);
    CHECK(out.written() == "CARBONTRACK-FIRMWARE-1\n1.5.0-rc.1\nct-1\n5\n" + offered.sha256 + "\n");
}

TEST_CASE("what is no offer is passed over, and what is half of one is said to be broken") {
    using Kind = wire::Offer::Kind;
    for (const char* text : {"", "null", "[]", "{", R"({"ver":null})", R"({"v":2,"ver":null})", R"({"v":1})",
                             R"({"v":1,"ver":""})", R"({"v":1,"ver":"new"})", R"({"v":1,"ver":7})",
                             R"({"v":1,"ver":"1.0.0","ver":null})"}) {
        CHECK_MESSAGE(wire::read_offer(text).kind == Kind::nothing, text);
    }
    CHECK(wire::read_offer(R"({"v":1,"ver":null})").kind == Kind::withdrawal);
    CHECK(wire::read_offer(R"({"v":1,"ver":"1.5.0"})").kind == Kind::broken);
    const Offered whole("1.5.0", "image");
    REQUIRE(wire::read_offer(whole.body()).kind == Kind::image);
    for (const char* more :
         {R"(,"jitter_s":-1)", R"(,"jitter_s":86401)", R"(,"jitter_s":"1")", R"(,"min":"old")", R"(,"min":1)",
          R"(,"force":1)", R"(,"url":"https://other.example.org/")", R"(,"size":5)"}) {
        Offered broken = whole;
        broken.more = more;
        CHECK_MESSAGE(wire::read_offer(broken.body()).kind == Kind::broken, more);
    }
    for (const char* url : {"", "ftp://core.example.org/image", "https://", "https://core example", "file:///etc"}) {
        Offered broken = whole;
        broken.url = url;
        CHECK_MESSAGE(wire::read_offer(broken.body()).kind == Kind::broken, url);
    }
    Offered broken = whole;
    broken.url = "https://" + std::string(600, 'a');
    CHECK(wire::read_offer(broken.body()).kind == Kind::broken);
    broken = whole;
    broken.sha256[5] = 'F';
    CHECK(wire::read_offer(broken.body()).kind == Kind::broken);
    broken = whole;
    broken.size = 0;
    CHECK(wire::read_offer(broken.body()).kind == Kind::broken);
    Ready world;
    world.say_offer(R"({"v":1,"ver":"1.5.0"})");
    world.run(1000);
    CHECK(world.last_told() == "failed 1.5.0 offer");
}

// --- what is not taken

TEST_CASE("a good image is fetched, checked, tried and confirmed, and the platform hears of every step") {
    Ready world;
    world.offer = world.offered().body();
    world.mqtt.cut();
    world.run(minute);
    CHECK(world.running == "1.5.0");
    CHECK(world.slots.state == hal::Slots::Running::confirmed);
    CHECK(world.slots.images[world.slots.own] == world.image);
    CHECK(world.told.front() == "downloading 1.5.0");
    CHECK(world.has_told("verifying 1.5.0"));
    CHECK(world.has_told("rebooting 1.5.0"));
    CHECK(world.last_told() == "confirmed 1.5.0");
    CHECK(world.download.requests == std::vector<std::uint32_t>{0});
    CHECK(world.boots == 2);
}

TEST_CASE("how far it is, is said at most every ten per cent") {
    Ready world;
    world.say_offer(world.offered().body());
    world.run(30000);
    unsigned reports = 0;
    std::int64_t last = -1;
    for (const std::string& line : world.told) {
        reports += line == "downloading 1.5.0" ? 1U : 0U;
    }
    CHECK(reports == 1);  // `told` has no repetitions
    Ready other;
    other.say_offer(other.offered().body());
    reports = 0;
    for (unsigned step = 0; step < 300; ++step) {
        other.run(100);
        for (const Sent& message : other.mqtt.on("up/res")) {
            if (message.id > last) {
                last = message.id;
                ++reports;
            }
        }
    }
    CHECK(reports >= 8);
    CHECK(reports <= 14);
}

TEST_CASE("other hardware, older versions and what is too large are refused before anything is fetched") {
    const std::string image = image_of("1.5.0");
    Offered other("1.5.0", image);
    other.hardware = "ct-2";
    CHECK(refused(other) == "failed 1.5.0 hw");
    CHECK(refused({"1.3.9", image}) == "failed 1.3.9 older");
    CHECK(refused({"1.4.0-rc.1", image}) == "failed 1.4.0-rc.1 older");
    CHECK_MESSAGE(refused({"1.4.0", image}) == "confirmed 1.4.0", "it is what runs");
    Offered far("2.0.0", image);
    far.more = R"(,"min":"1.4.1")";
    CHECK(refused(far) == "failed 2.0.0 min");
    Offered large("1.5.0", image);
    large.size = (1 << 20) + 1;
    CHECK(refused(large) == "failed 1.5.0 size");
}

TEST_CASE("what is signed by nobody, by another one or for something else is refused before anything is fetched") {
    const Offered whole("1.5.0", image_of("1.5.0"));
    Offered by_other = whole;
    by_other.key = "another key";
    CHECK(refused(by_other) == "failed 1.5.0 signature");
    std::string body = whole.body();
    body.replace(body.find("1.5.0"), 5, "1.6.0");
    Ready world;
    world.say_offer(body);
    world.run(1000);
    CHECK(world.last_told() == "failed 1.6.0 signature");
    for (const char* signature : {"", "AAAA", "====", "A", "AA=A", "A===", "!!!!"}) {
        body = whole.body();
        const std::size_t at = body.find(R"("sig":")") + 7;
        body.replace(at, body.find('"', at) - at, signature);
        world.say_offer(body);
        world.run(1000);
        CHECK_MESSAGE(world.last_told() == "failed 1.5.0 signature", signature);
    }
    CHECK(world.values.erase("firmware_key"));
    world.say_offer(whole.body());
    world.run(1000);
    CHECK_MESSAGE(world.last_told() == "failed 1.5.0 signature", "without a key nobody can have signed it");
    CHECK(world.download.requests.empty());
}

TEST_CASE("a way back has to be forced") {
    Ready world;
    world.image = image_of("1.3.0");
    world.download.content = world.image;
    Offered back("1.3.0", world.image);
    world.say_offer(back.body());
    world.run(minute);
    CHECK(world.last_told() == "failed 1.3.0 older");
    back.more = R"(,"force":true)";
    world.say_offer(back.body());
    world.run(minute);
    CHECK(world.running == "1.3.0");
    CHECK(world.last_told() == "confirmed 1.3.0");
}

// --- fetching

TEST_CASE("wrong bytes are fetched once more, and then the image is at fault") {
    Ready world;
    world.download.content.back() = static_cast<char>(world.download.content.back() + 1);
    world.offer = world.offered().body();
    world.say_offer(world.offer);
    world.run(2 * minute);
    CHECK(world.last_told() == "failed 1.5.0 hash");
    CHECK(world.download.requests == std::vector<std::uint32_t>{0, 0});
    world.mqtt.cut();
    world.run(minute);
    CHECK_MESSAGE(world.download.requests.size() == 2, "offered again, it is not fetched again");
    CHECK(world.running == "1.4.0");
}

TEST_CASE("nobody fetches before a random moment, and a repeated offer does not change it") {
    Ready world;
    world.random.value = 599000;
    Offered later = world.offered();
    later.more = R"(,"jitter_s":600)";
    world.say_offer(later.body());
    CHECK(world.last_told() == "waiting 1.5.0");
    world.run(300000);
    world.say_offer(later.body());
    world.run(290000, 1000);
    CHECK(world.download.requests.empty());
    world.run(15000);
    CHECK(world.download.requests.size() == 1);
}

TEST_CASE("after a lost link it goes on at the very byte, however short the links are") {
    Ready world;
    world.download.cut_after = 20000;
    world.say_offer(world.offered().body());
    world.run(5 * minute);
    CHECK(world.running == "1.5.0");
    REQUIRE(world.download.requests.size() == 10);
    for (std::uint32_t time = 0; time < 10; ++time) {
        CHECK(world.download.requests[time] == 20000 * time);
    }
}

TEST_CASE("an answer that is over too early is no whole image") {
    Ready world;
    world.download.cut_after = 90000;
    world.download.ends_early = true;
    world.say_offer(world.offered().body());
    world.run(5 * minute);
    CHECK(world.running == "1.5.0");
    CHECK(world.download.requests == std::vector<std::uint32_t>{0, 90000, 180000});
}

TEST_CASE("a server that begins at the beginning, whatever it is asked for, is as good as another") {
    Ready world;
    world.download.ignores_range = true;
    world.download.cut_after = 90001;
    world.say_offer(world.offered().body());
    world.run(20000);
    world.download.cut_after = 150007;
    world.run(minute);
    world.download.cut_after = ~std::size_t{0};
    world.run(10 * minute);
    CHECK(world.running == "1.5.0");
    CHECK(world.slots.images[world.slots.own] == world.image);

    Ready slow("-", 300000);
    slow.download.ignores_range = true;
    slow.download.cut_after = 200000;
    slow.say_offer(slow.offered().body());
    slow.run(30000);
    slow.download.cut_after = ~std::size_t{0};
    slow.download.piece = 100;  // what it has already takes it 200 s to hear again
    slow.run(20 * minute);
    CHECK_MESSAGE(slow.running == "1.5.0", "what it has already is no silence");
    for (std::size_t request = 1; request < world.download.requests.size(); ++request) {
        CHECK_MESSAGE(world.download.requests[request] >= 90001, "it was put together without a mistake");
    }
}

TEST_CASE("a server that begins too late, says too much or says nothing does no harm") {
    Ready world;
    world.download.shift = 5;
    world.say_offer(world.offered().body());
    world.run(2 * minute);
    CHECK(world.has_told("downloading 1.5.0 range"));
    world.download.shift = 0;
    world.download.is_silent = true;
    world.run(15 * minute, 1000);
    const std::size_t before = world.download.requests.size();
    world.run(30 * minute, 1000);
    CHECK_MESSAGE(world.download.requests.size() > before, "it does not listen to silence for ever");
    world.download.is_silent = false;
    world.run(30 * minute, 1000);
    CHECK(world.running == "1.5.0");

    Ready other;
    other.download.content += "more";
    other.say_offer(other.offered().body());
    other.run(minute);
    CHECK(other.last_told() == "failed 1.5.0 size");
    CHECK(other.running == "1.4.0");
}

TEST_CASE("a server that says no three times is believed; one that is out of order is asked again") {
    for (const int status : {401, 403, 404, 302, 416}) {
        Ready world;
        world.download.status = status;
        world.say_offer(world.offered().body());
        world.run(5 * minute);
        CHECK(world.download.requests.size() == 3);
        CHECK(world.last_told() == "failed 1.5.0 http_" + std::to_string(status));
    }
    for (const int status : {500, 503, 429, 408, 0}) {
        Ready world;
        world.download.status = status;
        world.say_offer(world.offered().body());
        world.run(20 * minute, 1000);
        CHECK(world.has_told(status == 0 ? "downloading 1.5.0 link" : "downloading 1.5.0 http_" + std::to_string(status)));
        CHECK(world.download.requests.size() < 20);
        world.download.status = 206;
        world.run(20 * minute, 1000);
        CHECK(world.running == "1.5.0");
    }
    Ready mixed;
    mixed.say_offer(mixed.offered().body());
    for (unsigned time = 0; time < 6; ++time) {
        mixed.download.status = time % 2 == 0 ? 0 : 404;
        const std::size_t before = mixed.download.requests.size();
        for (unsigned step = 0; step < 20000 && mixed.download.requests.size() == before; ++step) {
            mixed.run(100);
        }
    }
    CHECK_MESSAGE(mixed.last_told() == "downloading 1.5.0 link", "in a row, and not now and then");
    Ready world;
    Offered never = world.offered();
    never.url = "https://never.example.org/";
    world.say_offer(never.body());
    world.run(minute);
    CHECK(world.last_told() == "failed 1.5.0 url");
}

TEST_CASE("an offer that is withdrawn is not fetched any more; offered again it goes on") {
    Ready world;
    world.download.cut_after = 100000;
    world.download.is_silent = true;
    world.say_offer(world.offered().body());
    world.run(1000);
    world.download.is_silent = false;
    world.run(4000);
    CHECK(world.download.is_running());
    world.say_offer(R"({"v":1,"ver":null})");
    CHECK_FALSE(world.download.is_running());
    CHECK_FALSE(world.update->is_busy());
    world.run(10 * minute, 1000);
    CHECK(world.running == "1.4.0");
    const std::size_t before = world.download.requests.size();
    world.download.cut_after = ~std::size_t{0};
    world.say_offer(world.offered().body());
    world.run(minute);
    CHECK(world.running == "1.5.0");
    CHECK(world.download.requests[before] % resume_step == 0);
}

TEST_CASE("a newer offer takes the place of the one that is being fetched") {
    Ready world;
    world.download.is_silent = true;
    world.say_offer(world.offered().body());
    world.run(1000);
    const std::string newer = image_of("1.6.0");
    world.download.content = newer;
    world.download.is_silent = false;
    world.say_offer(Offered("1.6.0", newer).body());
    world.run(minute);
    CHECK(world.running == "1.6.0");
    CHECK(world.last_told() == "confirmed 1.6.0");
}

TEST_CASE("flash that does not take it is no reason to stop measuring") {
    Ready world;
    world.slots.refuses = true;
    world.say_offer(world.offered().body());
    world.run(minute);
    CHECK(world.last_told() == "failed 1.5.0 storage");
    CHECK(world.node->tally().samples >= 12);
}

TEST_CASE("no sample is late for an update, and none is lost but while it starts anew") {
    Ready world("-", 1000000);
    world.download.piece = 4096;
    const std::uint32_t before = world.node->tally().samples;
    world.say_offer(world.offered().body());
    world.run(30000);
    CHECK(world.running == "1.4.0");
    CHECK(world.node->tally().samples == before + 6);
    CHECK(world.node->tally().late_samples == 0);
    world.run(2 * minute);
    CHECK(world.running == "1.5.0");
}

TEST_CASE("without a connection nothing new is tried") {
    Ready world;
    world.say_offer(world.offered().body());
    world.run(5000);
    world.mqtt.accepts = false;
    world.mqtt.cut();
    world.run(10 * minute, 100);
    CHECK(world.running == "1.4.0");
    CHECK(world.slots.state == hal::Slots::Running::confirmed);
    world.mqtt.accepts = true;
    world.run(5 * minute, 100);
    CHECK(world.running == "1.5.0");
    CHECK(world.last_told() == "confirmed 1.5.0");
}

// --- trials

TEST_CASE("an image that never connects runs for a quarter of an hour, and then the old one says so") {
    Ready world("deaf");
    world.offer = world.offered().body();
    world.say_offer(world.offer);
    world.run(minute);
    CHECK(world.running == "1.5.0");
    CHECK(world.last_told() == "rebooting 1.5.0");
    world.run(13 * minute, 1000);
    CHECK(world.running == "1.5.0");
    world.run(3 * minute);
    CHECK(world.running == "1.4.0");
    CHECK(world.slots.state == hal::Slots::Running::confirmed);
    CHECK(world.has_told("rolled_back 1.5.0"));
    CHECK_MESSAGE(world.download.requests.size() == 1, "offered again, it is not tried again");
    CHECK(world.last_told() == "rolled_back 1.5.0 tried");
    CHECK(world.mqtt.on("up/state").front().body.find(R"("rst":"ota")") != std::string::npos);
}

TEST_CASE("an image that connects, and is never receipted, is given up too") {
    Ready world;
    world.say_offer(world.offered().body());
    world.receipts = false;
    world.run(minute);
    CHECK(world.running == "1.5.0");
    CHECK_FALSE(world.has_told("confirmed 1.5.0"));
    world.receipts = true;
    world.run(16 * minute, 100);
    CHECK(world.running == "1.4.0");
    CHECK(world.last_told() == "rolled_back 1.5.0");
}

TEST_CASE("an image that crashes is given up after three starts, and no safe mode comes of it") {
    Ready world("crashes");
    world.say_offer(world.offered().body());
    world.run(minute);
    CHECK(world.crashes == 3);
    CHECK(world.running == "1.4.0");
    CHECK(world.last_told() == "rolled_back 1.5.0");
    CHECK_FALSE(world.node->is_safe_mode());
}

TEST_CASE("what failed its trial is tried again where somebody insists") {
    Ready world("crashes");
    world.say_offer(world.offered().body());
    world.run(minute);
    world.say_offer(world.offered().body());
    CHECK(world.last_told() == "rolled_back 1.5.0 tried");
    Offered insisted = world.offered();
    insisted.more = R"(,"force":true)";
    world.say_offer(insisted.body());
    world.run(minute);
    CHECK(world.crashes == 6);
    CHECK(world.running == "1.4.0");
    CHECK(world.last_told() == "rolled_back 1.5.0");
    const std::string mended = image_of("1.5.1");
    world.download.content = mended;
    world.say_offer(Offered("1.5.1", mended).body());
    world.run(minute);
    CHECK(world.last_told() == "confirmed 1.5.1");
}

TEST_CASE("on trial the other slot is left alone, whatever is offered") {
    Ready world;
    world.say_offer(world.offered().body());
    world.receipts = false;
    world.run(minute);
    REQUIRE(world.update->is_on_trial());
    const std::string newer = image_of("1.6.0");
    const std::string old = world.slots.images[world.slots.own ^ 1];
    world.download.content = newer;
    world.say_offer(Offered("1.6.0", newer).body());
    world.run(minute);
    CHECK(world.slots.images[world.slots.own ^ 1] == old);
    world.receipts = true;
    world.mqtt.cut();
    world.run(2 * minute);
    CHECK(world.has_told("confirmed 1.5.0"));
    CHECK(world.running == "1.6.0");
    CHECK(world.last_told() == "confirmed 1.6.0");
}

TEST_CASE("what the platform has not heard is said after the next birth") {
    Ready world;
    world.say_offer(world.offered().body());
    for (unsigned step = 0; step < 600 && world.boots < 2; ++step) {
        world.run(100);
    }
    REQUIRE(world.running == "1.5.0");
    world.mqtt.acknowledges = false;  // the confirmation does not arrive,
    world.run(5000);
    CHECK(world.last_told() == "confirmed 1.5.0");
    REQUIRE(world.slots.state == hal::Slots::Running::confirmed);
    world.told.clear();
    world.boot();                     // and the power goes
    world.run(minute);
    CHECK(world.last_told() == "confirmed 1.5.0");
    world.told.clear();
    world.boot();
    world.run(minute);
    CHECK_MESSAGE(world.told.empty(), "it knows by now");
}

// --- the power

namespace {

// Whether it ends well wherever the power goes, once. How many writes there were until the end.
unsigned live_with_a_cut(unsigned cut_at, bool is_done, const std::string& fault, const std::string& end) {
    UpdateWorld world;
    const std::string image = image_of("1.5.0", fault, 150000);
    const std::string old = world.slots.images[0];
    world.download.content = image;
    world.download.piece = 4096;
    world.offer = Offered("1.5.0", image).body();
    world.settings.sample_ms = 60000;
    world.boot();
    world.values.writes = 0;
    world.values.cut_at = cut_at;
    world.values.is_done_at_cut = is_done;
    bool was_cut = false;
    for (unsigned second = 0; second < 60 && world.last_told().find(end) != 0; ++second) {
        if (!world.run(1000)) {
            was_cut = true;
            world.values.power_on();
            world.told.clear();
            world.boot();
        }
        CAPTURE(cut_at);
        const std::string& running = world.slots.images[world.slots.own];
        CHECK_MESSAGE((running == image || running == old), "nothing is started but what is whole");
    }
    CAPTURE(cut_at);
    CAPTURE(is_done);
    CHECK(world.last_told().find(end) == 0);
    CHECK(world.running == (fault == "-" ? "1.5.0" : "1.4.0"));
    CHECK(world.slots.state == hal::Slots::Running::confirmed);
    if (was_cut && world.download.requests.size() == 2) {
        CHECK(world.download.requests[1] % resume_step == 0);
    }
    return world.values.writes;
}

}  // namespace

TEST_CASE("wherever the power goes while an image is fetched, put in place and confirmed, it is in place in the end") {
    const unsigned writes = live_with_a_cut(~0U, false, "-", "confirmed 1.5.0");
    REQUIRE(writes > 40);
    for (unsigned cut_at = 0; cut_at < writes + 2; ++cut_at) {
        live_with_a_cut(cut_at, false, "-", "confirmed 1.5.0");
        live_with_a_cut(cut_at, true, "-", "confirmed 1.5.0");
    }
}

TEST_CASE("wherever the power goes while a bad image is tried, the old one runs in the end and says so") {
    const unsigned writes = live_with_a_cut(~0U, false, "crashes", "rolled_back 1.5.0");
    REQUIRE(writes > 40);
    for (unsigned cut_at = 0; cut_at < writes + 2; ++cut_at) {
        live_with_a_cut(cut_at, false, "crashes", "rolled_back 1.5.0");
        live_with_a_cut(cut_at, true, "crashes", "rolled_back 1.5.0");
    }
}

TEST_CASE("after the power has gone it goes on where it was, and not at the beginning") {
    Ready world("-", 300000);
    world.offer = world.offered().body();
    world.say_offer(world.offer);
    world.run(14000);  // 140 pieces of 1,500 bytes
    REQUIRE(world.download.requests.size() == 1);
    world.boot();
    world.run(2 * minute);
    CHECK(world.download.requests == std::vector<std::uint32_t>{0, 3 * resume_step});
    CHECK(world.running == "1.5.0");
}

TEST_CASE("progress is written at most once for 64 KiB") {
    Ready world("-", 300000);
    const unsigned before = world.values.writes;
    world.say_offer(world.offered().body());
    world.run(2 * minute);
    REQUIRE(world.running == "1.5.0");
    const unsigned slot_writes = (300000 + 1499) / 1500;
    CHECK(world.values.writes - before <= slot_writes + 1 + 300000 / resume_step + 8);
}

TEST_CASE("what was begun and is gone from its slot is fetched from the beginning") {
    Ready world("-", 300000);
    world.download.piece = 4096;
    world.offer = world.offered().body();
    world.say_offer(world.offer);
    world.run(5000);
    world.slots.images[1].clear();
    world.boot();
    world.run(2 * minute);
    CHECK(world.download.requests == std::vector<std::uint32_t>{0, 0});
    CHECK(world.running == "1.5.0");
}

TEST_CASE("records that were damaged are none") {
    Ready world;
    world.say_offer(world.offered().body());
    world.run(3000);
    for (const char* name : {"fw_image", "fw_outcome"}) {
        for (auto& [kept, value] : world.values.kept) {
            if (kept == name && !value.empty()) {
                value[value.size() / 2] = static_cast<std::uint8_t>(value[value.size() / 2] ^ 0x10);
            }
        }
    }
    world.boot();
    world.offer = world.offered().body();
    world.run(2 * minute);
    CHECK(world.running == "1.5.0");
    CHECK(world.last_told() == "confirmed 1.5.0");
}
