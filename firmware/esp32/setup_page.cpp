#include "setup_page.h"

#include <cstring>

namespace ct::esp32 {

namespace {

struct Field {
    const char* name;
    const char* label;
    const char* kind;  // of the input; text fields show what is there
};

constexpr Field fields[] = {
    {app::credential::id, "Device ID", "text"},
    {app::credential::password, "Device password", "password"},
    {app::credential::wifi_ssid, "Wi-Fi name", "text"},
    {app::credential::wifi_password, "Wi-Fi password", "password"},
    {app::credential::host, "Broker (host name)", "text"},
    {app::credential::port, "Port", "number"},
    {app::credential::ca, "CA certificate (PEM)", "area"},
    {app::credential::cert, "Client certificate (PEM, where the broker wants one)", "area"},
    {app::credential::key, "Key of the client certificate (PEM)", "area"},
    {app::credential::firmware_key, "Public key for firmware (PEM)", "area"},
};

constexpr std::string_view head =
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
    "<title>Carbon Track node</title><style>body{font:1rem sans-serif;max-width:30rem;margin:1rem auto;padding:0 1rem}"
    "label{display:block;margin:.8rem 0}input,textarea{display:block;width:100%;font:inherit;box-sizing:border-box}"
    "</style><h1>Carbon Track node</h1>";

void write_escaped(json::Writer& out, std::string_view text) {
    for (const char& letter : text) {
        switch (letter) {
            case '&': out.raw("&amp;"); break;
            case '<': out.raw("&lt;"); break;
            case '>': out.raw("&gt;"); break;
            case '"': out.raw("&quot;"); break;
            case '\'': out.raw("&#39;"); break;
            default: out.raw({&letter, 1});
        }
    }
}

bool is_text(const Field& field) { return std::strcmp(field.kind, "text") == 0 || std::strcmp(field.kind, "number") == 0; }

}  // namespace

std::string_view SetupPage::show() {
    json::Writer out(page_.data(), page_.size());
    write_form(out, "");
    return answer_ = out.written();
}

void SetupPage::write_form(json::Writer& out, std::string_view message) {
    out.raw(head);
    if (!message.empty()) {
        out.raw("<p role=alert>Not saved: ");
        write_escaped(out, message);
        out.raw("</p>");
    }
    out.raw("<form method=post action=\"/\" autocomplete=off>");
    for (const Field& field : fields) {
        std::array<char, 256> text;
        const auto size = values_.get(field.name, reinterpret_cast<std::uint8_t*>(text.data()), text.size());
        out.raw("<label>").raw(field.label);
        if (!is_text(field) && size.value_or(0) > 0) {
            out.raw(" (is there; leave empty to keep it)");
        }
        if (std::strcmp(field.kind, "area") == 0) {
            out.raw("<textarea rows=4 name=").raw(field.name).raw("></textarea></label>");
            continue;
        }
        out.raw("<input type=").raw(field.kind).raw(" name=").raw(field.name).raw(" value=\"");
        if (is_text(field) && size && *size <= text.size()) {
            write_escaped(out, {text.data(), *size});
        }
        out.raw("\"></label>");
    }
    out.raw("<button>Save and start</button></form>");
}

bool SetupPage::take(Form& form) {
    json::Writer line(line_.data(), line_.size());
    line.raw(R"({"provision":{)");
    bool is_first = true;
    for (const Field& field : fields) {
        const auto given = form.field(field.name);
        if (!given || given->empty()) {
            continue;
        }
        line.raw(is_first ? "\"" : ",\"").raw(field.name).raw("\":");
        is_first = false;
        // A port that is no number stays a text, and is refused as one.
        const bool is_number = std::strcmp(field.kind, "number") == 0 && given->find_first_not_of("0123456789") == given->npos;
        is_number ? line.raw(*given) : line.text(*given);
    }
    line.raw("}}");
    std::array<char, app::Provision::largest_answer> buffer;
    json::Writer answer(buffer.data(), buffer.size());
    provision_.take(line.is_whole() ? line.written() : "{", answer);
    json::Writer out(page_.data(), page_.size());
    const bool is_taken = answer.written() == R"({"ok":true})";
    if (is_taken) {
        out.raw(head).raw("<p>Saved. The node starts with it now, and this network goes away.</p>");
    } else {
        write_form(out, answer.written());
    }
    answer_ = out.written();
    return is_taken;
}

SetupPassword setup_password(hal::KeyValue& values, hal::Random& random) {
    constexpr const char* name = "ap_password";
    constexpr std::string_view letters = "abcdefghjkmnpqrstuvwxyz23456789";  // 31: 59 bits in 12 of them
    SetupPassword password = {};
    auto* const bytes = reinterpret_cast<std::uint8_t*>(password.data());
    constexpr std::size_t size = std::tuple_size_v<SetupPassword> - 1;
    if (values.get(name, bytes, size) == size) {
        return password;
    }
    for (std::size_t at = 0; at < size; ++at) {
        password[at] = letters[random.next() % letters.size()];
    }
    values.set(name, {bytes, size});
    return password;
}

}  // namespace ct::esp32
