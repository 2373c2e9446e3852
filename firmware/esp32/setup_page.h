// The page by which a node is set up over its own access point: what it shows, and what becomes of a form that is sent.
// Without any SDK, so that it can be tested.
//
// Secrets go in and never come out: the page says whether they are there. A field that is left empty stays as it was.
#pragma once

#include <optional>
#include <string_view>

#include "ct/app/provision.h"
#include "ct/hal/system.h"

namespace ct::esp32 {

class SetupPage {
public:
    static constexpr std::size_t largest = 6 * 1024;
    using Page = std::array<char, largest>;
    using Line = std::array<char, app::Provision::largest_line>;

    // A field of the form as it was sent; none where it was not. The text is used before the next one is asked for.
    class Form {
    public:
        virtual std::optional<std::string_view> field(const char* name) = 0;

    protected:
        ~Form() = default;
    };

    SetupPage(app::Provision& provision, hal::KeyValue& values, Page& page, Line& line)
        : provision_(provision), values_(values), page_(page), line_(line) {}

    // HTML, good until the next call.
    std::string_view show();
    // True: it was taken, and the node should start anew. The page then says so, or what is wrong.
    bool take(Form& form);
    std::string_view answer() const { return answer_; }

private:
    void write_form(json::Writer& out, std::string_view message);

    app::Provision& provision_;
    hal::KeyValue& values_;
    Page& page_;
    Line& line_;
    std::string_view answer_;
};

// A password for the access point, of letters and digits that nobody mixes up.
using SetupPassword = std::array<char, 13>;
// The one that is kept, or a new one of 12 letters, which is kept from then on.
SetupPassword setup_password(hal::KeyValue& values, hal::Random& random);

}  // namespace ct::esp32
