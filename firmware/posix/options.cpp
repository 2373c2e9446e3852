#include "options.h"

#include <cmath>
#include <cstdlib>
#include <functional>

namespace ct::posix {

namespace {

struct Option {
    const char* name;
    const char* value;  // nullptr: it has none
    const char* about;
    std::function<bool(Options&, const std::string&)> take;
};

std::function<bool(Options&, const std::string&)> text(std::string Options::* to) {
    return [to](Options& options, const std::string& word) {
        options.*to = word;
        return !word.empty();
    };
}

std::function<bool(Options&, const std::string&)> number(std::uint32_t Options::* to, std::uint32_t least,
                                                         std::uint32_t most) {
    return [=](Options& options, const std::string& word) {
        char* end = nullptr;
        const unsigned long long value = std::strtoull(word.c_str(), &end, 10);
        if (word.empty() || *end != '\0' || word[0] == '-' || value < least || value > most) {
            return false;
        }
        options.*to = static_cast<std::uint32_t>(value);
        return true;
    };
}

std::function<bool(Options&, const std::string&)> real(double Options::* to, double least, double most) {
    return [=](Options& options, const std::string& word) {
        char* end = nullptr;
        const double value = std::strtod(word.c_str(), &end);
        if (word.empty() || *end != '\0' || !(value >= least && value <= most)) {
            return false;
        }
        options.*to = value;
        return true;
    };
}

const std::vector<Option>& all_options() {
    static const std::vector<Option> known = {
        {"--id", "ID", "the device's id: its user name and client id at the broker (needed, unless the state has it)", text(&Options::device_id)},
        {"--flash", "FILE", "the file that stands for the flash partition; made where there is none (needed)",
         text(&Options::flash_file)},
        {"--flash-kib", "N", "its size, a multiple of 4 (9216: two weeks)", number(&Options::flash_kib, 12, 1U << 20)},
        {"--state", "FOLDER",
         "what must survive beside the records: configuration, credentials, counters (without it nothing does)",
         text(&Options::state_folder)},
        {"--provision", nullptr, "read lines of JSON from standard input into the state, answer each, and end",
         [](Options& options, const std::string&) { return options.is_provision = true; }},
        {"--signals", "FILE", "where lamp and buzzer are written to, a line for each change (-: standard error)",
         text(&Options::signals_file)},
        {"--reset-cause", "NAME", "why the machine has started: poweron, software, panic, watchdog, brownout, ota",
         text(&Options::reset_cause)},
        {"--slots", "FOLDER",
         "two programs, this one first; the platform may have the other one replaced and tried (needs --state)",
         text(&Options::slots_folder)},
        {"--firmware-key", "FILE", "the public key of whoever signs programs, in PEM (the state's)",
         text(&Options::firmware_key_file)},
        {"--trial-s", "N", "without a receipt for so long, a new program is given up (900)",
         number(&Options::trial_s, 1, 86400)},
        {"--launched-by", "PROGRAM", "what chose this program out of two slots; it says so itself",
         text(&Options::launched_by)},
        {"--host", "HOST", "the broker (the state's, or 127.0.0.1)", text(&Options::host)},
        {"--port", "PORT", "its port (the state's, or 8883)",
         [](Options& options, const std::string& word) {
             options.port = std::atoi(word.c_str());
             return options.port > 0 && options.port < 65536;
         }},
        {"--ca", "FILE", "the authority of the broker's certificate, in PEM", text(&Options::ca_file)},
        {"--plain", nullptr, "without TLS; only a broker on this machine should be spoken to like that",
         [](Options& options, const std::string&) { return options.is_plain = true; }},
        {"--cert", "FILE", "a client certificate, where the broker wants one", text(&Options::cert_file)},
        {"--key", "FILE", "its key", text(&Options::key_file)},
        {"--password-file", "FILE",
         "the password at the broker; without it the environment's CARBONTRACK_NODE_PASSWORD",
         text(&Options::password_file)},
        {"--sensors", "NAMES", "scripted sensors, with commas (ndir20,max31856,sdp8xx,modbus_meter)",
         text(&Options::sensors)},
        {"--seed", "N", "which boiler the script shows (1)", number(&Options::seed, 0, 0xFFFFFFFF)},
        {"--from-hour", "H", "the hour of the day at which the script begins (the true one)",
         real(&Options::from_hour, 0.0, 24.0)},
        {"--altitude-m", "M", "of the site; what the air pressure is worked out from (2000)",
         real(&Options::altitude_m, -400.0, 5000.0)},
        {"--sample-ms", "N", "between two samples (5000)", number(&Options::sample_ms, 20, 600000)},
        {"--readings", "N", "of each sensor for one sample (5)", number(&Options::readings, 1, 16)},
        {"--records-ms", "N", "between two meter records, and two health records (60000)",
         number(&Options::records_ms, 50, 3600000)},
        {"--warm-up-s", "N", "of the CO2 head (180)", number(&Options::warm_up_s, 0, 3600)},
        {"--patience-ms", "N", "without a receipt for so long, it is sent again (60000)",
         number(&Options::patience_ms, 100, 600000)},
        {"--longest-backoff-ms", "N", "between two attempts to connect (120000)",
         number(&Options::longest_backoff_ms, 10, 600000)},
        {"--keepalive-s", "N", "of the connection (30)", number(&Options::keepalive_s, 5, 600)},
        {"--clock-after-ms", "N", "the node does not know the time before that (0)",
         number(&Options::clock_after_ms, 0, 86400000)},
        {"--run-s", "N", "stop by itself after so long (0: never)", number(&Options::run_s, 0, 86400U * 30)},
        {"--drain-s", "N", "when stopped, wait so long for receipts of everything (0)",
         number(&Options::drain_s, 0, 3600)},
        {"--help", nullptr, "print this", [](Options& options, const std::string&) { return options.is_help = true; }},
    };
    return known;
}

std::string check(const Options& options) {
    if (options.is_help) {
        return {};
    }
    const bool has_state = !options.state_folder.empty();
    if (options.is_provision) {
        return has_state ? "" : "--provision needs --state";
    }
    if (!options.slots_folder.empty() && !has_state) {
        return "--slots needs --state";
    }
    if ((options.device_id.empty() && !has_state) || options.flash_file.empty()) {
        return "--id and --flash are needed";
    }
    if (options.device_id.size() > 64 || options.device_id.find_first_of("/+#$ ") != std::string::npos) {
        return "--id has at most 64 characters, and none of / + # $ or space";
    }
    if (options.ca_file.empty() != options.is_plain && !(has_state && !options.is_plain)) {
        return "say --ca FILE for TLS, or --plain for none";
    }
    if (options.cert_file.empty() != options.key_file.empty()) {
        return "--cert and --key go together";
    }
    return options.flash_kib % 4 == 0 ? "" : "--flash-kib is a multiple of 4";
}

}  // namespace

std::string usage() {
    std::string text =
        "carbontrack-node: the node's firmware on this machine, with scripted sensors and a file for flash.\n"
        "\n"
        "Usage: carbontrack-node --id ID --flash FILE (--ca FILE | --plain) [options]\n"
        "\n";
    for (const Option& option : all_options()) {
        std::string left = std::string("  ") + option.name + (option.value != nullptr ? std::string(" ") + option.value : "");
        left.resize(left.size() < 26 ? 26 : left.size() + 1, ' ');
        text += left + option.about + "\n";
    }
    text +=
        "\n"
        "It runs until SIGTERM or SIGINT, says goodbye, and prints its account as one line of JSON.\n"
        "When the platform has it reboot, it says goodbye and starts this program anew in the same process, with the\n"
        "same options and --reset-cause software.\n"
        "With --slots it is a boot loader first: it starts one of two programs in that folder, and the old one again where a\n"
        "new one was started three times, or ran for --trial-s, without ever being receipted.\n"
        "\n"
        "Examples:\n"
        "  A day's rhythm from 09:00 on, over TLS:\n"
        "    CARBONTRACK_NODE_PASSWORD=... carbontrack-node --id dev-001 --flash dev-001.flash \\\n"
        "      --host broker.example.org --ca ca.pem --from-hour 9\n"
        "  Against a broker on this machine that has neither TLS nor passwords, a sample a second:\n"
        "    carbontrack-node --id dev-001 --flash dev-001.flash --plain --port 1883 --sample-ms 1000 --warm-up-s 0\n"
        "  Told who it is, as by the serial line of a box; later it needs no more than that:\n"
        "    echo '{\"provision\":{\"id\":\"dev-001\",\"password\":\"...\",\"host\":\"broker.example.org\"}}' |\n"
        "      carbontrack-node --state dev-001.state --provision\n"
        "    carbontrack-node --state dev-001.state --flash dev-001.flash --ca ca.pem\n"
        "  Stopped, it sends what is left before it goes:\n"
        "    carbontrack-node --id dev-001 --flash dev-001.flash --plain --port 1883 --drain-s 30\n";
    return text;
}

std::string read_options(const std::vector<std::string>& words, Options& options) {
    for (std::size_t at = 0; at < words.size(); ++at) {
        const std::string& word = words[at];
        const Option* found = nullptr;
        for (const Option& option : all_options()) {
            found = word == option.name ? &option : found;
        }
        if (found == nullptr) {
            return "there is no option " + word + " (see --help)";
        }
        const bool has_value = found->value != nullptr;
        if (has_value && at + 1 == words.size()) {
            return word + " needs a value";
        }
        const std::string value = has_value ? words[++at] : std::string();
        if (!found->take(options, value)) {
            return word + " cannot be " + value;
        }
    }
    return check(options);
}

}  // namespace ct::posix
