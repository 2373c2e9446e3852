#include "ct/store/ring.h"

#include "ct/crc.h"

namespace ct::store {

namespace {

constexpr std::uint32_t magic = 0x31525443;  // "CTR1"
constexpr std::uint8_t note_kind = 0x0F;
constexpr std::uint32_t watermark_note_every = 512;  // records that are sent again at worst
constexpr std::uint32_t connections_ahead = 16;
constexpr unsigned most_tries = 4;
constexpr std::size_t crc_at = 30;
constexpr std::uint32_t last_seq = 0xFFFFFFFE;  // 680 years at one record every 5 s

bool has_right_crc(const Slot& slot) {
    return get_le<std::uint16_t>(slot.data() + crc_at) == crc16({slot.data(), crc_at});
}

}  // namespace

struct Ring::Header {
    std::uint32_t sid = 0;
    std::uint32_t ordinal = 0;
    std::uint32_t first_seq = 0;
    std::uint32_t erasures = 0;
    std::uint32_t reserved = 0;
    std::uint32_t watermark = 0;
    std::uint16_t boot = 0;

    Slot pack() const {
        Slot slot = {};
        const std::uint32_t words[] = {magic, sid, ordinal, first_seq, erasures, reserved, watermark};
        std::uint8_t* to = slot.data();
        for (const std::uint32_t word : words) {
            put_le(to, word);
            to += 4;
        }
        put_le(to, boot);
        put_le(slot.data() + crc_at, crc16({slot.data(), crc_at}));
        return slot;
    }

    bool unpack(const Slot& slot) {
        const std::uint8_t* from = slot.data();
        if (get_le<std::uint32_t>(from) != magic || !has_right_crc(slot)) {
            return false;
        }
        std::uint32_t* const words[] = {&sid, &ordinal, &first_seq, &erasures, &reserved, &watermark};
        for (std::uint32_t* const word : words) {
            from += 4;
            *word = get_le<std::uint32_t>(from);
        }
        boot = get_le<std::uint16_t>(from + 4);
        return true;
    }
};

// --- where things are

std::uint32_t Ring::sector_of(std::uint32_t ordinal) const {
    return (newest_sector_ + geometry_.sectors - (newest_ - ordinal) % geometry_.sectors) % geometry_.sectors;
}

bool Ring::read_slot(std::uint32_t sector, std::uint32_t slot, Slot& bytes) {
    const auto at = sector * geometry_.sector_size + (slot + 1) * static_cast<std::uint32_t>(slot_size);
    return flash_.read(at, bytes.data(), bytes.size());
}

bool Ring::read_header(std::uint32_t sector, Header& header) {
    Slot bytes;
    return flash_.read(sector * geometry_.sector_size, bytes.data(), bytes.size()) && header.unpack(bytes);
}

// --- after a start

bool Ring::open(std::uint32_t new_sid) {
    geometry_ = flash_.geometry();
    slots_ = geometry_.sector_size / static_cast<std::uint32_t>(slot_size) - 1;
    if (geometry_.sectors < 3 || !find_newest()) {
        return false;
    }
    if (newest_ == 0) {
        sid_ = new_sid;
        newest_sector_ = geometry_.sectors - 1;  // the first sector is opened next
        if (!open_sector()) {
            return false;
        }
    } else if (!scan_newest()) {
        return false;
    }
    boot_ = boot_ < 0xFFFF ? static_cast<std::uint16_t>(boot_ + 1) : boot_;
    connection_ = reserved_;
    noted_watermark_ = watermark_;
    reserved_ += connections_ahead;
    write_note();
    return true;
}

// The sector with the highest ordinal is the one that was written last. False where the flash does not answer: a ring
// that cannot be read just now must not be taken for none.
bool Ring::find_newest() {
    Header header;
    for (std::uint32_t sector = 0; sector < geometry_.sectors; ++sector) {
        Slot bytes;
        if (!flash_.read(sector * geometry_.sector_size, bytes.data(), bytes.size())) {
            return false;
        }
        if (header.unpack(bytes) && header.ordinal > newest_) {
            newest_ = header.ordinal;
            newest_sector_ = sector;
            sid_ = header.sid;
        }
    }
    oldest_ = newest_;
    for (std::uint32_t ordinal = newest_; ordinal > 0 && newest_ - ordinal < geometry_.sectors; --ordinal) {
        if (read_header(sector_of(ordinal), header) && header.ordinal == ordinal && header.sid == sid_) {
            oldest_ = ordinal;
        }
    }
    return true;
}

// The newest sector tells the next number, what the notes say, and where to go on.
bool Ring::scan_newest() {
    Header header;
    if (!read_header(newest_sector_, header)) {
        return false;
    }
    next_seq_ = header.first_seq;
    watermark_ = header.watermark;
    reserved_ = header.reserved;
    boot_ = header.boot;
    wear_.most = header.erasures;
    slot_ = 0;
    for (std::uint32_t slot = 0; slot < slots_; ++slot) {
        Slot bytes;
        Record record;
        if (!read_slot(newest_sector_, slot, bytes)) {
            return false;
        }
        if (Bytes{bytes.data(), bytes.size()}.are_all(0xFF)) {
            continue;
        }
        slot_ = slot + 1;
        if (bytes[10] == note_kind && has_right_crc(bytes)) {
            next_seq_ = get_le<std::uint32_t>(bytes.data()) > next_seq_ ? get_le<std::uint32_t>(bytes.data()) : next_seq_;
            reserved_ = get_le<std::uint32_t>(bytes.data() + 16);
            watermark_ = get_le<std::uint32_t>(bytes.data() + 20);
            boot_ = get_le<std::uint16_t>(bytes.data() + 12);
        } else if (unpack(bytes, record) && record.seq >= next_seq_ && record.seq <= last_seq) {
            next_seq_ = record.seq + 1;
        }
    }
    if (watermark_ >= next_seq_) {  // what was receipted cannot be read any more; its numbers are used all the same
        watermark_ = watermark_ < last_seq ? watermark_ : last_seq;
        next_seq_ = watermark_ + 1;
    }
    return true;
}

// --- writing

// Opens the sector behind the newest one. What was in it is gone; what the header says was true when it was opened.
bool Ring::open_sector() {
    for (unsigned tries = 0; tries < most_tries; ++tries) {
        const std::uint32_t sector = (newest_sector_ + 1) % geometry_.sectors;
        Header old;
        const std::uint32_t erasures = (read_header(sector, old) ? old.erasures : wear_.most) + 1;
        const Header header = {sid_, newest_ + 1, next_seq_, erasures, reserved_, watermark_, boot_};
        const Slot bytes = header.pack();
        // A sector that fails keeps its place in the order: the next one has the next ordinal but one.
        newest_sector_ = sector;
        ++newest_;
        if (newest_ - oldest_ >= geometry_.sectors) {
            oldest_ = newest_ - geometry_.sectors + 1;
        }
        slot_ = 0;
        ++wear_.erasures;
        Slot found = {};
        if (flash_.erase(sector) && flash_.write(sector * geometry_.sector_size, {bytes.data(), bytes.size()}) &&
            flash_.read(sector * geometry_.sector_size, found.data(), found.size()) && found == bytes) {
            wear_.most = erasures > wear_.most ? erasures : wear_.most;
            return true;
        }
        ++wear_.failed_writes;
    }
    slot_ = slots_;  // the next write tries again
    return false;
}

bool Ring::write_slot(const Slot& bytes) {
    for (unsigned tries = 0; tries < most_tries; ++tries) {
        if (slot_ >= slots_ && !open_sector()) {
            return false;
        }
        const auto at = newest_sector_ * geometry_.sector_size + (slot_ + 1) * static_cast<std::uint32_t>(slot_size);
        ++slot_;
        Slot found = {};
        if (flash_.write(at, {bytes.data(), bytes.size()}) && flash_.read(at, found.data(), found.size()) &&
            found == bytes) {
            return true;
        }
        ++wear_.failed_writes;
    }
    return false;
}

bool Ring::append(Record& record) {
    if (next_seq_ > last_seq) {
        return false;
    }
    record.seq = next_seq_;
    record.boot = boot_;
    if (!write_slot(pack(record))) {
        return false;
    }
    ++next_seq_;
    return true;
}

void Ring::write_note() {
    Slot bytes = {};
    put_le(bytes.data(), next_seq_);
    bytes[10] = note_kind;
    put_le(bytes.data() + 12, boot_);
    put_le(bytes.data() + 16, reserved_);
    put_le(bytes.data() + 20, watermark_);
    put_le(bytes.data() + crc_at, crc16({bytes.data(), crc_at}));
    if (write_slot(bytes)) {
        noted_watermark_ = watermark_;
    }
}

void Ring::set_watermark(std::uint32_t seq) {
    if (seq == watermark_ || seq >= next_seq_) {
        return;
    }
    const bool goes_back = seq < watermark_;
    watermark_ = seq;
    if (goes_back || watermark_ - noted_watermark_ >= watermark_note_every) {
        write_note();
    }
}

std::uint32_t Ring::new_connection() {
    ++connection_;
    if (connection_ >= reserved_) {
        reserved_ = connection_ + connections_ahead;
        write_note();
    }
    return connection_;
}

bool Ring::format(std::uint32_t new_sid) {
    for (std::uint32_t sector = 1; sector <= geometry_.sectors; ++sector) {
        if (!flash_.erase((newest_sector_ + sector) % geometry_.sectors)) {
            return false;
        }
    }
    sid_ = new_sid;
    next_seq_ = 1;
    watermark_ = noted_watermark_ = 0;
    oldest_ = newest_ + 1;
    return open_sector();
}

// --- reading

// To the newest sector that begins at or before the wanted number.
void Ring::seek(Cursor& cursor) {
    Header header;
    cursor.slot = 0;
    for (cursor.ordinal = newest_; cursor.ordinal > oldest_; --cursor.ordinal) {
        if (read_header(sector_of(cursor.ordinal), header) && header.ordinal == cursor.ordinal &&
            header.first_seq <= cursor.seq) {
            return;
        }
    }
}

bool Ring::next(Cursor& cursor, Record& record) {
    if (cursor.ordinal < oldest_ || cursor.ordinal == 0) {
        seek(cursor);
    }
    while (true) {
        const std::uint32_t sector = sector_of(cursor.ordinal);
        const std::uint32_t end = cursor.ordinal == newest_ ? slot_ : slots_;
        while (cursor.slot < end) {
            Slot bytes;
            const bool is_read = read_slot(sector, cursor.slot, bytes);
            ++cursor.slot;
            if (is_read && unpack(bytes, record) && record.seq >= cursor.seq && record.seq < next_seq_) {
                cursor.seq = record.seq + 1;
                return true;
            }
        }
        if (cursor.ordinal >= newest_) {
            return false;
        }
        ++cursor.ordinal;
        cursor.slot = 0;
    }
}

std::uint32_t Ring::first() { return first_from(1); }

std::uint32_t Ring::first_unreceipted() { return first_from(watermark_ + 1); }

std::uint32_t Ring::first_from(std::uint32_t seq) {
    Cursor cursor;
    cursor.seq = seq;
    Record record;
    return next(cursor, record) ? record.seq : next_seq_;
}

bool Ring::newest_of(std::size_t kind, Record& record) {
    for (std::uint32_t ordinal = newest_; ordinal >= oldest_ && newest_ - ordinal < 2; --ordinal) {
        for (std::uint32_t slot = ordinal == newest_ ? slot_ : slots_; slot > 0; --slot) {
            Slot bytes;
            if (read_slot(sector_of(ordinal), slot - 1, bytes) && unpack(bytes, record) &&
                record.content.index() == kind) {
                return true;
            }
        }
    }
    return false;
}

}  // namespace ct::store
