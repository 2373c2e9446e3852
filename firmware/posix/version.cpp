#include "version.h"

#ifndef CT_VERSION
#define CT_VERSION "0.1.0"
#endif

namespace ct::posix {

const char* version() { return CT_VERSION; }

}  // namespace ct::posix
