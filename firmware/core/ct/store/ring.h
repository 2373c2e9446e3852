// The node's store: a ring of sectors in NOR flash, written from one end to the other and over again.
//
//     sector   [ header | slot | slot | ... | slot ]         32 bytes each: 127 slots in 4 KiB
//     header   magic 4, sid 4, ordinal 4, first seq 4, erasures 4, conn 4, watermark 4, boot 2, crc 2
//
// - A sector is erased only when it is opened for writing again, one after the other: all wear alike.
// - A record has its number before it is written, and counts as kept when it is read back. A power cut leaves a slot
//   that is no record; that number was never sent, and the next record takes it.
// - The watermark is the last number that the platform has receipted. It moves by receipts only. Receipted records
//   stay readable until their sector is opened again, so a platform that was restored from a backup can have them.
// - What must survive beside the records (boot, connection, watermark) stands in every sector's header, and in notes
//   between the records when it changes. Notes have no number.
// - What cannot be read any more (overwritten, torn, worn) is a hole: `next` goes on behind it, and the caller sees by
//   the number that something is missing.
#pragma once

#include "ct/hal/flash.h"
#include "ct/store/record.h"

namespace ct::store {

class Ring {
public:
    // Where somebody reads. `seq` is the number that is wanted next; the rest is the ring's.
    struct Cursor {
        std::uint32_t seq = 1;
        std::uint32_t ordinal = 0;  // 0: not sought yet
        std::uint32_t slot = 0;
    };

    struct Wear {
        std::uint32_t erasures = 0;  // since this object was opened
        std::uint32_t most = 0;      // of any sector that was opened, over its life
        std::uint32_t failed_writes = 0;
    };

    explicit Ring(hal::Flash& flash) : flash_(flash) {}

    // Finds out where it stood; on flash without any ring it begins a new stream with the id `new_sid`. Counts the
    // boot. False: the flash does not answer; nothing was changed that cannot be read.
    bool open(std::uint32_t new_sid);

    // Gives a record the next number and keeps it. False: the flash refused; the number is not used up.
    bool append(Record& record);

    // The record with the smallest number from cursor.seq on; false where there is none (yet).
    bool next(Cursor& cursor, Record& record);

    // Number of the oldest record that can be read, receipted or not; where there is none, the next number.
    std::uint32_t first();
    // The same beyond the watermark.
    std::uint32_t first_unreceipted();

    // The newest record of a kind (its index in Content) in the two newest sectors.
    bool newest_of(std::size_t kind, Record& record);

    // The platform has everything up to `seq`. Also backwards: after it was restored from a backup.
    void set_watermark(std::uint32_t seq);

    // A number for the next connection that no connection had before, also not before a restart.
    std::uint32_t new_connection();

    // Begins a new stream. The newest sector goes last: until then the old stream can go on.
    bool format(std::uint32_t new_sid);

    std::uint32_t sid() const { return sid_; }
    std::uint16_t boot() const { return boot_; }
    std::uint32_t next_seq() const { return next_seq_; }
    std::uint32_t watermark() const { return watermark_; }
    std::uint32_t unreceipted() const { return next_seq_ - 1 - watermark_; }
    std::uint32_t capacity() const { return (geometry_.sectors - 1) * slots_; }
    const Wear& wear() const { return wear_; }

private:
    struct Header;

    bool read_slot(std::uint32_t sector, std::uint32_t slot, Slot& bytes);
    bool read_header(std::uint32_t sector, Header& header);
    std::uint32_t sector_of(std::uint32_t ordinal) const;
    bool find_newest();
    bool scan_newest();
    bool open_sector();
    bool write_slot(const Slot& bytes);
    void write_note();
    std::uint32_t first_from(std::uint32_t seq);
    void seek(Cursor& cursor);

    hal::Flash& flash_;
    hal::FlashGeometry geometry_;
    std::uint32_t slots_ = 0;           // in a sector
    std::uint32_t sid_ = 0;
    std::uint32_t newest_ = 0;          // ordinal of the sector that is written; counts up from 1
    std::uint32_t newest_sector_ = 0;   // where it is
    std::uint32_t oldest_ = 1;          // smallest ordinal that may still be there
    std::uint32_t slot_ = 0;            // next slot to write in the newest sector
    std::uint32_t next_seq_ = 1;
    std::uint32_t watermark_ = 0;
    std::uint32_t noted_watermark_ = 0;
    std::uint32_t connection_ = 0;
    std::uint32_t reserved_ = 0;        // connections up to this number may have been used
    std::uint16_t boot_ = 0;
    Wear wear_;
};

}  // namespace ct::store
