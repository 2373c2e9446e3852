#include "ct/app/update.h"

#include "ct/app/provision.h"
#include "ct/crc.h"

namespace ct::app {

namespace {

using hal::Slots;
using wire::Offer;
using wire::UpdateState;
using Piece = hal::Download::Piece;

constexpr const char* image_name = "fw_image";      // layout 1 | bytes 4 | size 4 | sha256 32 | version 33 | crc 2
constexpr const char* outcome_name = "fw_outcome";  // layout 1 | kind 1 | told 1 | sha256 32 | version 33 | crc 2
constexpr std::uint8_t layout = 1;
constexpr std::size_t version_size = std::tuple_size<decltype(wire::Version::letters)>::value;
constexpr std::size_t image_bytes = 1 + 4 + 4 + 32 + version_size + 2;
constexpr std::size_t outcome_bytes = 1 + 1 + 1 + 32 + version_size + 2;

constexpr std::size_t piece_size = 4096;
constexpr std::uint32_t first_pause_ms = 2000;
constexpr std::uint64_t longest_silence_ms = 120000;
constexpr unsigned most_refusals = 3;      // by the server, in a row; then it means it
constexpr unsigned told_attempt = 3;       // without a new byte; then the platform is told why
constexpr std::uint32_t told_step = 10;    // per cent

std::uint8_t* bytes_of(Update::Room& room) { return reinterpret_cast<std::uint8_t*>(room.data()); }

// A text and a hash into a record, with its checksum; and out of it.
template <std::size_t size>
void seal(std::array<std::uint8_t, size>& record, const wire::Sha256& sha256, const wire::Version& version) {
    std::size_t at = size - 2 - version_size - sha256.size();
    for (const std::uint8_t byte : sha256) {
        record[at++] = byte;
    }
    for (const char letter : version.letters) {
        record[at++] = static_cast<std::uint8_t>(letter);
    }
    put_le(record.data() + at, crc16({record.data(), at}));
}

template <std::size_t size>
bool unseal(hal::KeyValue& values, const char* name, std::array<std::uint8_t, size>& record, wire::Sha256& sha256,
            wire::Version& version) {
    if (values.get(name, record.data(), size) != size || record[0] != layout ||
        get_le<std::uint16_t>(record.data() + size - 2) != crc16({record.data(), size - 2})) {
        return false;
    }
    std::size_t at = size - 2 - version_size - sha256.size();
    for (std::uint8_t& byte : sha256) {
        byte = record[at++];
    }
    for (char& letter : version.letters) {
        letter = static_cast<char>(record[at++]);
    }
    version.letters.back() = '\0';
    return true;
}

// Whether the server means it: asking again for the same thing gives the same answer.
bool is_refusal(int status) { return status >= 300 && status < 500 && status != 408 && status != 425 && status != 429; }

}  // namespace

// --- what is kept

void Update::read_kept() {
    std::array<std::uint8_t, image_bytes> record;
    has_kept_ = unseal(edges_.values, image_name, record, kept_.sha256, kept_.version);
    kept_bytes_ = has_kept_ ? get_le<std::uint32_t>(record.data() + 1) : 0;
    kept_.size = has_kept_ ? get_le<std::uint32_t>(record.data() + 5) : 0;
}

bool Update::keep_image() {
    std::array<std::uint8_t, image_bytes> record = {layout};
    const std::uint32_t bytes = written_ / Slots::resume_step * Slots::resume_step;
    put_le(record.data() + 1, bytes);
    put_le(record.data() + 5, image_.size);
    seal(record, image_.sha256, image_.version);
    if (!edges_.values.set(image_name, {record.data(), record.size()})) {
        return false;
    }
    has_kept_ = true;
    kept_ = image_;
    kept_bytes_ = bytes;
    return true;
}

void Update::read_outcome() {
    std::array<std::uint8_t, outcome_bytes> record;
    if (!unseal(edges_.values, outcome_name, record, outcome_.sha256, outcome_.version) ||
        record[1] > static_cast<std::uint8_t>(Outcome::Kind::rolled_back)) {
        outcome_ = {};
        return;
    }
    outcome_.kind = static_cast<Outcome::Kind>(record[1]);
    outcome_.is_told = record[2] != 0;
}

bool Update::keep_outcome() {
    std::array<std::uint8_t, outcome_bytes> record = {layout, static_cast<std::uint8_t>(outcome_.kind),
                                                      static_cast<std::uint8_t>(outcome_.is_told ? 1 : 0)};
    seal(record, outcome_.sha256, outcome_.version);
    return edges_.values.set(outcome_name, {record.data(), record.size()});
}

// First how it ended, then the slot, then that nothing is under way. Where the power goes in between, `open` finds the
// trial or its end as it was, and it all happens once more; or an image that is not wanted any more, which does no harm.
void Update::end_with(Outcome::Kind kind, const wire::Version& version, const wire::Sha256& sha256) {
    outcome_ = {kind, false, version, sha256};
    const bool is_kept = keep_outcome();
    const bool is_new = kind == Outcome::Kind::confirmed;
    if (is_kept || is_new) {  // a good program is confirmed even if nobody will hear of it after the next start
        is_on_trial_ = !edges_.slots.confirm() && is_new;
    }
    if (is_kept && !is_on_trial_ && edges_.values.erase(image_name)) {
        has_kept_ = false;
    }
    ending_ = {};
    ending_.version = version;
    ending_.state = is_new ? UpdateState::confirmed : UpdateState::rolled_back;
    ending_.percent = is_new ? 100 : 0;
    ending_.is_due = !is_on_trial_;
}

void Update::open() {
    read_kept();
    read_outcome();
    switch (edges_.slots.running()) {
        case Slots::Running::on_trial: is_on_trial_ = true; break;
        case Slots::Running::came_back:
            if (has_kept_) {
                end_with(Outcome::Kind::rolled_back, kept_.version, kept_.sha256);
            } else {
                edges_.slots.confirm();  // nobody knows of what
            }
            break;
        case Slots::Running::confirmed: break;
    }
    if (!is_on_trial_ && !outcome_.is_told && !ending_.is_due) {
        const bool is_new = outcome_.kind == Outcome::Kind::confirmed;
        ending_.version = outcome_.version;
        ending_.state = is_new ? UpdateState::confirmed : UpdateState::rolled_back;
        ending_.percent = is_new ? 100 : 0;
        ending_.is_due = true;
    }
}

// --- offers

void Update::take(std::string_view channel, std::string_view payload, std::uint64_t now_ms) {
    const Offer offer = channel == "fw" ? wire::read_offer(payload) : Offer{};
    switch (offer.kind) {
        case Offer::Kind::nothing: break;
        case Offer::Kind::withdrawal: withdraw(); break;
        case Offer::Kind::broken:
            if (stage_ < Stage::telling) {
                withdraw();
                report_of(offer, UpdateState::failed, "offer");
            }
            break;
        case Offer::Kind::image: consider(offer, now_ms); break;
    }
}

void Update::consider(const Offer& offer, std::uint64_t now_ms) {
    if (stage_ >= Stage::telling) {
        return;  // what is finished is tried first
    }
    if (stage_ != Stage::idle && is_same(offer)) {
        url_.set(offer.url);
        progress_.is_due = true;  // it does not know how far it is
        return;
    }
    const bool is_this_one = wire::compare_versions(offer.version, own_version()) == 0;
    if (is_this_one && (is_on_trial_ || !offer.is_forced)) {
        if (!is_on_trial_) {
            withdraw();
            report_of(offer, UpdateState::confirmed);
        }
        return;
    }
    withdraw();  // the newest word counts
    if (!offer.is_forced && outcome_.kind == Outcome::Kind::rolled_back && outcome_.sha256 == offer.sha256) {
        report_of(offer, UpdateState::rolled_back, "tried");
        return;
    }
    const std::string_view refusal = refusal_of(offer);
    if (!refusal.empty()) {
        report_of(offer, UpdateState::failed, refusal);
        return;
    }
    accept(offer, now_ms);
}

// Whatever has no version is older than everything that has one.
std::string_view Update::own_version() const {
    return wire::is_version(settings_.version) ? settings_.version : "0.0.0";
}

// Why it is not taken; empty: it is.
std::string_view Update::refusal_of(const Offer& offer) {
    if (offer.hardware != settings_.hardware) {
        return "hw";
    }
    if (!offer.is_forced && wire::compare_versions(offer.version, own_version()) < 0) {
        return "older";
    }
    if (!offer.least.empty() && wire::compare_versions(own_version(), offer.least) < 0) {
        return "min";
    }
    if (offer.size > edges_.slots.capacity()) {
        return "size";
    }
    if (!offer.is_forced && offer.sha256 == hopeless_) {
        return "hash";
    }
    return is_signed(offer) ? "" : "signature";
}

bool Update::is_signed(const Offer& offer) {
    constexpr std::size_t text_size = 512;
    json::Writer text(room_.data(), text_size);
    wire::write_signed_text(text, offer);
    std::string_view key = settings_.key;
    if (key.empty()) {
        char* const to = room_.data() + text_size;
        const std::size_t capacity = room_.size() - text_size;
        const std::size_t size = edges_.values.get(credential::firmware_key, bytes_of(room_) + text_size, capacity).value_or(0);
        key = size <= capacity ? std::string_view(to, size) : std::string_view();
    }
    return text.is_whole() && !key.empty() && offer.signature_size > 0 &&
           edges_.crypto.is_signed(key, text.written(), {offer.signature.data(), offer.signature_size});
}

bool Update::is_same(const Offer& offer) const {
    return image_.version.view() == offer.version && image_.size == offer.size && image_.sha256 == offer.sha256;
}

void Update::accept(const Offer& offer, std::uint64_t now_ms) {
    image_.version.set(offer.version);
    image_.size = offer.size;
    image_.sha256 = offer.sha256;
    url_.set(offer.url);
    attempts_ = refusals_ = bad_hashes_ = 0;
    // What was begun goes on at once: it has waited already.
    const bool is_begun = has_kept_ && kept_bytes_ > 0 && kept_.sha256 == image_.sha256 && kept_.size == image_.size;
    written_ = is_begun ? kept_bytes_ : 0;
    is_slot_open_ = false;
    const std::uint64_t jitter_ms = std::uint64_t{offer.jitter_s} * 1000;
    due_ms_ = now_ms + (is_begun ? 0 : edges_.random.next() % (jitter_ms + 1));
    stage_ = Stage::waiting;
    report(UpdateState::waiting, percent());
}

// What is not finished is not wanted any more. What is there of it stays, should it be offered again.
void Update::withdraw() {
    if (stage_ < Stage::telling) {
        edges_.download.stop();
        stage_ = Stage::idle;
        progress_ = {};
    }
}

// --- fetching

void Update::start(std::uint64_t now_ms) {
    if (!is_slot_open_ && written_ > 0) {
        is_slot_open_ = edges_.slots.begin(image_.size, written_);
        written_ = is_slot_open_ ? written_ : 0;  // what was there is gone
    }
    if (!is_slot_open_) {
        is_slot_open_ = keep_image() && edges_.slots.begin(image_.size, 0);
    }
    if (!is_slot_open_) {
        fail("storage");
    } else if (written_ == image_.size) {
        begin_check();
    } else if (!edges_.download.start(url_.view(), written_)) {
        fail("url");
    } else {
        stage_ = Stage::fetching;
        due_ms_ = now_ms + longest_silence_ms;
        if (progress_.state != UpdateState::downloading) {
            told_percent_ = percent() / told_step;
            report(UpdateState::downloading, percent());
        }
    }
}

void Update::fetch(std::uint64_t now_ms) {
    const Piece piece = edges_.download.poll(bytes_of(room_), piece_size);
    switch (piece.kind) {
        case Piece::Kind::nothing:
            if (now_ms >= due_ms_) {
                pause(0, "link", now_ms);
            }
            break;
        case Piece::Kind::bytes: take_bytes(piece, now_ms); break;
        case Piece::Kind::end: pause(0, "short", now_ms); break;
        case Piece::Kind::failed: pause(piece.status, "link", now_ms); break;
    }
}

void Update::take_bytes(const Piece& piece, std::uint64_t now_ms) {
    const std::uint64_t end = std::uint64_t{piece.at} + piece.size;
    if (end > image_.size) {
        fail("size");
        return;
    }
    if (piece.at > written_) {
        pause(0, "range", now_ms);
        return;
    }
    due_ms_ = now_ms + longest_silence_ms;
    if (end <= written_) {
        return;  // a server that begins at the beginning, whatever it is asked for
    }
    const Bytes fresh = Bytes{bytes_of(room_), piece.size}.part(written_ - piece.at, piece.size);
    if (!edges_.slots.write(fresh)) {
        fail("storage");
        return;
    }
    written_ += static_cast<std::uint32_t>(fresh.size);
    attempts_ = refusals_ = 0;
    if (written_ / Slots::resume_step > kept_bytes_ / Slots::resume_step) {
        keep_image();  // where it cannot, more will be fetched again after a power cut
    }
    if (written_ == image_.size) {
        edges_.download.stop();
        begin_check();
    } else if (percent() / told_step > told_percent_) {
        told_percent_ = percent() / told_step;
        report(UpdateState::downloading, percent());
    }
}

// Until a moment between now and a limit that doubles each time, as for connections. Links break, servers are put up
// again: it does not give up for that. It does where the server says three times that there is nothing for it.
void Update::pause(int status, std::string_view error, std::uint64_t now_ms) {
    edges_.download.stop();
    ++attempts_;
    if (status != 0) {
        json::Writer out(room_.data(), room_.size());
        error = out.raw("http_").number(status).written();
    }
    refusals_ = is_refusal(status) ? refusals_ + 1 : 0;
    if (refusals_ >= most_refusals) {
        fail(error);
        return;
    }
    const std::uint64_t doubled = std::uint64_t{first_pause_ms} << (attempts_ < 16 ? attempts_ - 1 : 15);
    const std::uint64_t limit_ms = doubled < settings_.longest_pause_ms ? doubled : settings_.longest_pause_ms;
    due_ms_ = now_ms + limit_ms / 2 + edges_.random.next() % (limit_ms / 2 + 1);
    stage_ = Stage::pausing;
    if (attempts_ == told_attempt) {
        report(UpdateState::downloading, percent(), error);  // so that somebody sees why nothing goes on
    }
}

unsigned Update::percent() const {
    return image_.size == 0 ? 0 : static_cast<unsigned>(std::uint64_t{written_} * 100 / image_.size);
}

// --- checking and trying

void Update::begin_check() {
    stage_ = Stage::checking;
    checked_ = 0;
    edges_.crypto.begin_hash();
    report(UpdateState::verifying, 100);
}

// What is in the slot, and not what came from the net.
void Update::check(std::uint64_t now_ms) {
    const std::uint32_t left = image_.size - checked_;
    const std::size_t size = left < piece_size ? left : piece_size;
    if (!edges_.slots.read(checked_, bytes_of(room_), size)) {
        fail("storage");
        return;
    }
    edges_.crypto.add({bytes_of(room_), size});
    checked_ += static_cast<std::uint32_t>(size);
    if (checked_ < image_.size) {
        return;
    }
    std::uint8_t found[hal::Crypto::hash_size];
    edges_.crypto.end_hash(found);
    std::uint8_t difference = 0;
    for (std::size_t at = 0; at < sizeof found; ++at) {
        difference = static_cast<std::uint8_t>(difference | (found[at] ^ image_.sha256[at]));
    }
    if (difference == 0) {
        stage_ = Stage::ready;
    } else {
        check_failed(now_ms);
    }
}

// Perhaps it was put together of two different files: once more from the beginning, and then it is the image's fault.
void Update::check_failed(std::uint64_t now_ms) {
    written_ = 0;
    is_slot_open_ = false;
    if (++bad_hashes_ >= 2 || !keep_image()) {
        hopeless_ = image_.sha256;
        fail("hash");
        return;
    }
    due_ms_ = now_ms;
    stage_ = Stage::waiting;
}

// Only with a connection: a program on trial needs a receipt, and where there is no network it would fail without fault.
void Update::install(const net::Session& session) {
    if (!session.is_running() || is_on_trial_) {
        return;
    }
    if (!edges_.slots.finish()) {
        fail("storage");
        return;
    }
    stage_ = Stage::telling;
    report(UpdateState::rebooting, 100);
}

void Update::fail(std::string_view error) {
    report(UpdateState::failed, percent(), error);
    edges_.download.stop();
    stage_ = Stage::idle;
}

// --- step by step

void Update::step(Node& node, std::uint64_t now_ms) {
    if (is_on_trial_ && was_receipted_) {
        wire::Version own;
        own.set(settings_.version);
        end_with(Outcome::Kind::confirmed, own, has_kept_ ? kept_.sha256 : wire::Sha256{});
        was_receipted_ = false;
    } else if (is_on_trial_ && now_ms >= settings_.trial_ms && stage_ != Stage::leaving) {
        if (edges_.slots.go_back()) {
            stage_ = Stage::leaving;
            node.restart(now_ms, "update");
        }
    }
    switch (stage_) {
        case Stage::idle:
        case Stage::leaving: break;
        case Stage::waiting:
        case Stage::pausing:
            if (now_ms >= due_ms_ && !is_on_trial_ && !node.is_restarting()) {
                start(now_ms);
            }
            break;
        case Stage::fetching: fetch(now_ms); break;
        case Stage::checking: check(now_ms); break;
        case Stage::ready: install(node.session()); break;
        case Stage::telling:
            if (!progress_.is_open()) {
                stage_ = Stage::leaving;
                node.restart(now_ms, "update");
            }
            break;
    }
    say(node.session(), ending_, now_ms);
    say(node.session(), progress_, now_ms);
}

// --- what the platform is told

void Update::report(UpdateState state, unsigned percent, std::string_view error) {
    progress_ = {};
    progress_.version = image_.version;
    progress_.state = state;
    progress_.percent = percent;
    progress_.error.set(error);
    progress_.is_due = true;
}

void Update::report_of(const Offer& offer, UpdateState state, std::string_view error) {
    report(state, state == UpdateState::confirmed ? 100 : 0, error);
    progress_.version.set(offer.version);
}

void Update::say(net::Session& session, Report& what, std::uint64_t now_ms) {
    if (!what.is_due) {
        return;
    }
    json::Writer out(room_.data(), room_.size());
    wire::write_update(out, what.version.view(), what.state, what.percent, what.error.view());
    what.said = session.say("res", out.written(), now_ms);
    what.is_due = what.said == 0;
}

void Update::has_landed(int said, std::uint64_t) {
    if (progress_.said == said) {
        progress_.said = 0;
    }
    if (ending_.said == said) {
        ending_.said = 0;
        outcome_.is_told = true;
        keep_outcome();
    }
}

void Update::went_offline(std::uint64_t) {
    for (Report* const what : {&progress_, &ending_}) {
        what->is_due = what->is_due || what->said != 0;
        what->said = 0;
    }
}

void Update::went_online(std::uint64_t) {}

void Update::was_receipted(std::uint64_t) { was_receipted_ = is_on_trial_; }

}  // namespace ct::app
