// What one says to carbontrack-node on its command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ct::posix {

struct Options {
    std::string device_id;
    std::string host;                   // empty: the state's, or this machine
    int port = 0;                       // 0: the state's, or 8883
    std::string ca_file;
    std::string cert_file;
    std::string key_file;
    std::string password_file;
    std::string flash_file;
    std::string sensors = "ndir20,max31856,sdp8xx,modbus_meter";
    std::string state_folder;           // empty: nothing is remembered beside the records
    std::string signals_file;           // empty: nobody looks at lamp and buzzer
    std::string reset_cause = "poweron";
    std::string slots_folder;           // empty: no updates
    std::string launched_by;            // the program that chose this one out of two slots
    std::string firmware_key_file;      // empty: the state's
    bool is_plain = false;
    bool is_provision = false;
    bool is_help = false;
    std::uint32_t flash_kib = 9216;
    std::uint32_t sample_ms = 5000;
    std::uint32_t readings = 5;         // of each sensor for one sample
    std::uint32_t warm_up_s = 180;
    std::uint32_t records_ms = 60000;   // between two meter or health records
    std::uint32_t patience_ms = 60000;
    std::uint32_t longest_backoff_ms = 120000;
    std::uint32_t keepalive_s = 30;
    std::uint32_t clock_after_ms = 0;
    std::uint32_t drain_s = 0;
    std::uint32_t run_s = 0;
    std::uint32_t trial_s = 900;        // of a new program, without any receipt
    std::uint32_t seed = 1;
    double altitude_m = 2000.0;
    double from_hour = -1.0;            // of the day; below 0: the true one
};

// The text of --help.
std::string usage();

// Reads the command line; what is wrong with it, or an empty text.
std::string read_options(const std::vector<std::string>& words, Options& options);

}  // namespace ct::posix
