#include "updates.h"

#ifdef CT_WITH_UPDATES

#include <fstream>
#include <sstream>

#include "ct/app/update.h"
#include "curl_download.h"
#include "file_slots.h"
#include "openssl_crypto.h"
#include "version.h"

namespace ct::posix {

namespace {

struct Texts {
    std::string hardware;
    std::string key;
};

class RealUpdates final : public Updates {
public:
    RealUpdates(app::Node& node, const Options& options, FileValues& values, hal::Random& random, Texts texts,
                ServerAccess access)
        : node_(node),
          texts_(std::move(texts)),
          slots_(options.slots_folder),
          download_(std::move(access)),
          update_({slots_, download_, crypto_, values, random}, settings_of(options, texts_), node.session().room()) {
        update_.open();
        node.set_updates(&update_);
    }

    void step(std::uint64_t now_ms) override { update_.step(node_, now_ms); }

private:
    static app::UpdateSettings settings_of(const Options& options, const Texts& texts) {
        app::UpdateSettings settings;
        settings.version = version();
        settings.hardware = texts.hardware;
        settings.key = texts.key;
        settings.trial_ms = options.trial_s * 1000;
        settings.longest_pause_ms = options.longest_backoff_ms;
        return settings;
    }

    app::Node& node_;
    const Texts texts_;
    FileSlots slots_;
    CurlDownload download_;
    OpensslCrypto crypto_;
    app::Update update_;
};

}  // namespace

std::unique_ptr<Updates> updates_of(app::Node& node, const Options& options, FileValues& values, hal::Random& random,
                                    const std::string& hardware, const std::string& password, std::string& problem) {
    Texts texts{hardware, ""};
    if (!options.firmware_key_file.empty()) {
        std::ifstream file(options.firmware_key_file);
        std::ostringstream key;
        key << file.rdbuf();
        texts.key = key.str();
        if (texts.key.empty()) {
            problem = options.firmware_key_file + ": cannot be read";
            return nullptr;
        }
    }
    return std::make_unique<RealUpdates>(
        node, options, values, random, std::move(texts),
        ServerAccess{options.ca_file, options.device_id, password, options.is_plain});
}

}  // namespace ct::posix

#else

namespace ct::posix {

std::unique_ptr<Updates> updates_of(app::Node&, const Options&, FileValues&, hal::Random&, const std::string&,
                                    const std::string&, std::string& problem) {
    problem = "this program was built without updates";
    return nullptr;
}

}  // namespace ct::posix

#endif
