// Which version of the firmware a program is. The one thing in which two images of the same sources differ.
#pragma once

namespace ct::posix {

const char* version();

}  // namespace ct::posix
