// Two programs in a folder, slot-a and slot-b, and a record of which one is started:
//
//     boot    <active slot> <confirmed|on_trial|came_back> <starts in that state>
//
// The record is written beside its place and then put there. It is also what a boot loader does, for a process that is
// started as a machine is.
#pragma once

#include <string>

#include "ct/hal/update.h"

namespace ct::posix {

class FileSlots final : public hal::Slots {
public:
    // Makes the folder where there is none. Whoever runs is the active program of the record.
    explicit FileSlots(std::string folder);
    ~FileSlots();
    FileSlots(const FileSlots&) = delete;
    FileSlots& operator=(const FileSlots&) = delete;

    const std::string& problem() const { return problem_; }

    // The boot loader's part.
    struct Start {
        std::string program;
        bool is_first = false;  // of this program, after another one
    };
    // As in the factory: the first program, where there is none.
    bool provide(const std::string& program);
    // Which program is to be started now; the start is counted.
    Start choose();
    // The program that was chosen cannot be started at all. False: there is no other one to go back to.
    bool give_up();

    std::uint32_t capacity() override { return 64U << 20; }
    Running running() override { return running_; }
    bool begin(std::uint32_t size, std::uint32_t from_byte) override;
    bool write(Bytes bytes) override;
    bool read(std::uint32_t at, std::uint8_t* to, std::size_t size) override;
    bool finish() override;
    bool confirm() override;
    bool go_back() override;

private:
    struct Record {
        char active = 'a';
        Running state = Running::confirmed;
        unsigned starts = 0;
    };

    static char other_than(char slot) { return slot == 'a' ? 'b' : 'a'; }
    std::string path_of(char slot) const { return folder_ + "/slot-" + slot; }
    bool read_record(Record& record) const;
    bool write_record(const Record& record);
    void close();

    std::string folder_;
    std::string problem_;
    Record record_;
    char own_ = 'a';
    Running running_ = Running::confirmed;
    int file_ = -1;  // of the other slot, while it is written
    std::uint32_t size_ = 0;
    std::uint32_t written_ = 0;
};

}  // namespace ct::posix
