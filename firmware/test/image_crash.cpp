// An image for tests that crashes before it does anything.
#include <cstdlib>

namespace {

struct Crash {
    Crash() { std::abort(); }
} const crash;

}  // namespace
