// An image for tests that measures and does everything else, but never gets a connection: with this in the program, the
// library's own function is not asked.
#include <mosquitto.h>

extern "C" int mosquitto_connect(mosquitto*, const char*, int, int) { return MOSQ_ERR_NO_CONN; }
