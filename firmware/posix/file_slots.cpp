#include "file_slots.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "folder.h"

namespace ct::posix {

namespace {

constexpr const char* state_names[] = {"confirmed", "on_trial", "came_back"};

}  // namespace

FileSlots::FileSlots(std::string folder) : folder_(std::move(folder)) {
    if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
        problem_ = folder_ + ": " + std::strerror(errno);
        return;
    }
    read_record(record_);
    own_ = record_.active;
    running_ = record_.state;
}

FileSlots::~FileSlots() { close(); }

void FileSlots::close() {
    if (file_ >= 0) {
        ::close(file_);
        file_ = -1;
    }
}

// --- the boot loader's part

bool FileSlots::provide(const std::string& program) {
    if (::access(path_of(record_.active).c_str(), F_OK) == 0) {
        return true;
    }
    const std::string beside = folder_ + "/slot.new";
    std::error_code error;
    std::filesystem::copy_file(program, beside, std::filesystem::copy_options::overwrite_existing, error);
    if (error || ::chmod(beside.c_str(), 0700) != 0 || ::rename(beside.c_str(), path_of(record_.active).c_str()) != 0) {
        problem_ = folder_ + ": the first program cannot be put there";
        return false;
    }
    return write_record(record_);
}

FileSlots::Start FileSlots::choose() {
    Record next = record_;
    if (next.state == Running::on_trial && next.starts >= most_trials) {
        next = {other_than(next.active), Running::came_back, 0};
    }
    const bool is_first = next.state != Running::confirmed && next.starts == 0;
    if (next.state != Running::confirmed) {
        ++next.starts;
        write_record(next);  // where it cannot, a crash is not counted
    }
    return {path_of(next.active), is_first};
}

bool FileSlots::give_up() {
    if (record_.state != Running::on_trial) {
        return false;
    }
    return write_record({other_than(record_.active), Running::came_back, 0});
}

// --- the record

bool FileSlots::read_record(Record& record) const {
    std::ifstream file(folder_ + "/boot");
    std::string slot, state;
    unsigned starts = 0;
    if (!(file >> slot >> state >> starts) || (slot != "a" && slot != "b")) {
        return false;
    }
    for (const Running known : {Running::confirmed, Running::on_trial, Running::came_back}) {
        if (state == state_names[static_cast<std::size_t>(known)]) {
            record = {slot[0], known, starts};
            return true;
        }
    }
    return false;
}

bool FileSlots::write_record(const Record& record) {
    const std::string beside = folder_ + "/boot.new";
    char text[48];
    const int size = std::snprintf(text, sizeof text, "%c %s %u\n", record.active,
                                   state_names[static_cast<std::size_t>(record.state)], record.starts);
    const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        return false;
    }
    const bool is_whole = ::write(file, text, static_cast<std::size_t>(size)) == size && ::fsync(file) == 0;
    if (::close(file) != 0 || !is_whole || ::rename(beside.c_str(), (folder_ + "/boot").c_str()) != 0) {
        return false;
    }
    record_ = record;
    return sync_folder(folder_);
}

// --- the other slot

bool FileSlots::begin(std::uint32_t size, std::uint32_t from_byte) {
    close();
    const std::string path = path_of(other_than(own_));
    if (from_byte == 0) {
        ::unlink(path.c_str());
    }
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat info = {};
    if (file_ < 0 || ::fchmod(file_, 0600) != 0 || ::fstat(file_, &info) != 0 || info.st_size < from_byte ||
        ::ftruncate(file_, from_byte) != 0) {
        close();
        return false;
    }
    size_ = size;
    written_ = from_byte;
    return true;
}

bool FileSlots::write(Bytes bytes) {
    if (file_ < 0 || bytes.size > size_ - written_ ||
        ::pwrite(file_, bytes.data, bytes.size, written_) != static_cast<ssize_t>(bytes.size)) {
        return false;
    }
    const std::uint32_t before = written_;
    written_ += static_cast<std::uint32_t>(bytes.size);
    return before / resume_step == written_ / resume_step || ::fdatasync(file_) == 0;
}

bool FileSlots::read(std::uint32_t at, std::uint8_t* to, std::size_t size) {
    return file_ >= 0 && ::pread(file_, to, size, at) == static_cast<ssize_t>(size);
}

bool FileSlots::finish() {
    const bool is_whole = file_ >= 0 && written_ == size_ && ::fchmod(file_, 0700) == 0 && ::fsync(file_) == 0;
    close();  // a file that somebody may write cannot be run
    return is_whole && write_record({other_than(own_), Running::on_trial, 0});
}

bool FileSlots::confirm() { return write_record({own_, Running::confirmed, 0}); }

bool FileSlots::go_back() { return write_record({other_than(own_), Running::came_back, 0}); }

}  // namespace ct::posix
