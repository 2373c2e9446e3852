#include <doctest/doctest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "file_slots.h"
#include "support.h"

using namespace ct;
using namespace ct::test;
using posix::FileSlots;
using Running = hal::Slots::Running;

TEST_SUITE_BEGIN("slots");

namespace {

constexpr std::uint32_t step = hal::Slots::resume_step;

// A folder that goes away with the test, with a program in it.
struct Folder {
    std::string path;
    Folder() {
        char name[] = "/tmp/ct-slots-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
        std::ofstream(path + "/program") << "old";
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string slots() const { return path + "/slots"; }
    std::string record() const { return read_file(slots() + "/boot"); }
};

bool write(FileSlots& slots, const std::string& bytes) {
    return slots.write({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

// As each process finds them.
FileSlots::Start start(const Folder& folder) {
    FileSlots slots(folder.slots());
    REQUIRE(slots.provide(folder.path + "/program"));
    return slots.choose();
}

void install(const Folder& folder, const std::string& bytes) {
    FileSlots slots(folder.slots());
    REQUIRE(slots.begin(static_cast<std::uint32_t>(bytes.size()), 0));
    REQUIRE(write(slots, bytes));
    REQUIRE(slots.finish());
}

Running running(const Folder& folder) { return FileSlots(folder.slots()).running(); }

bool may_run(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

}  // namespace

TEST_CASE("the first program comes from the factory, and stays") {
    const Folder folder;
    for (unsigned time = 0; time < 6; ++time) {
        const FileSlots::Start found = start(folder);
        CHECK(found.program == folder.slots() + "/slot-a");
        CHECK_FALSE(found.is_first);
        CHECK(read_file(found.program) == "old");
        CHECK(may_run(found.program));
        CHECK(running(folder) == Running::confirmed);
    }
}

TEST_CASE("a new program is started three times, and then the old one again") {
    const Folder folder;
    start(folder);
    install(folder, "new");
    for (unsigned time = 0; time < 3; ++time) {
        const FileSlots::Start found = start(folder);
        CHECK(read_file(found.program) == "new");
        CHECK(found.is_first == (time == 0));
        CHECK(running(folder) == Running::on_trial);
    }
    const FileSlots::Start back = start(folder);
    CHECK(read_file(back.program) == "old");
    CHECK(back.is_first);
    CHECK(running(folder) == Running::came_back);
    CHECK_FALSE(start(folder).is_first);
    CHECK_MESSAGE(running(folder) == Running::came_back, "until it has taken notice");
    CHECK(FileSlots(folder.slots()).confirm());
    CHECK(running(folder) == Running::confirmed);
    CHECK(read_file(start(folder).program) == "old");
}

TEST_CASE("a program that was confirmed stays, and the next one takes the other slot") {
    const Folder folder;
    start(folder);
    install(folder, "new");
    start(folder);
    CHECK(FileSlots(folder.slots()).confirm());
    for (unsigned time = 0; time < 5; ++time) {
        CHECK(read_file(start(folder).program) == "new");
    }
    install(folder, "newer");
    CHECK(start(folder).program == folder.slots() + "/slot-a");
    CHECK(read_file(folder.slots() + "/slot-b") == "new");
    CHECK(FileSlots(folder.slots()).go_back());
    const FileSlots::Start back = start(folder);
    CHECK(read_file(back.program) == "new");
    CHECK(back.is_first);
    CHECK(running(folder) == Running::came_back);
}

TEST_CASE("what cannot be started at all is given up at once; where nothing else is there, that is said") {
    const Folder folder;
    start(folder);
    install(folder, "no program");
    FileSlots slots(folder.slots());
    slots.choose();
    CHECK(slots.give_up());
    CHECK(read_file(slots.choose().program) == "old");
    CHECK_FALSE(slots.give_up());
}

TEST_CASE("until it is finished a slot cannot be started, and only a whole one can be finished") {
    const Folder folder;
    start(folder);
    FileSlots slots(folder.slots());
    CHECK_FALSE(write(slots, "nothing was begun"));
    REQUIRE(slots.begin(6, 0));
    CHECK(write(slots, "abc"));
    CHECK_FALSE(may_run(folder.slots() + "/slot-b"));
    CHECK_FALSE(slots.finish());
    CHECK(read_file(start(folder).program) == "old");
    REQUIRE(slots.begin(6, 0));
    CHECK(write(slots, "abcdef"));
    CHECK_FALSE_MESSAGE(write(slots, "g"), "more than was said");
    std::uint8_t found[3] = {};
    CHECK(slots.read(2, found, 3));
    CHECK(std::string(found, found + 3) == "cde");
    CHECK_FALSE(slots.read(4, found, 3));
    CHECK(slots.finish());
    CHECK(read_file(start(folder).program) == "abcdef");
}

TEST_CASE("a slot goes on where it was, if so much is there") {
    const Folder folder;
    start(folder);
    const std::string bytes(step + 100, 'x');
    {
        FileSlots slots(folder.slots());
        REQUIRE(slots.begin(2 * step, 0));
        REQUIRE(write(slots, bytes));
    }
    FileSlots slots(folder.slots());
    CHECK_FALSE(slots.begin(2 * step, 2 * step));
    REQUIRE(slots.begin(2 * step, step));
    CHECK(write(slots, std::string(step, 'y')));
    CHECK(slots.finish());
    CHECK(read_file(folder.slots() + "/slot-b") == std::string(step, 'x') + std::string(step, 'y'));
}

TEST_CASE("a record that cannot be read is that of the factory; a folder that cannot be made is a problem") {
    const Folder folder;
    start(folder);
    install(folder, "new");
    CHECK(folder.record() == "b on_trial 0\n");
    for (const char* text : {"", "c confirmed 0", "b asleep 0", "b on_trial", "b"}) {
        std::ofstream(folder.slots() + "/boot") << text;
        CHECK_MESSAGE(read_file(start(folder).program) == "old", text);
    }
    CHECK_FALSE(FileSlots(folder.path + "/none/slots").problem().empty());
}
