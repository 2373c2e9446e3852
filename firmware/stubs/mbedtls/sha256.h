#pragma once

#include <cstddef>

struct mbedtls_sha256_context {
    unsigned char state[128];
};

extern "C" {
void mbedtls_sha256_init(mbedtls_sha256_context* context);
void mbedtls_sha256_free(mbedtls_sha256_context* context);
int mbedtls_sha256_starts(mbedtls_sha256_context* context, int is_224);
int mbedtls_sha256_update(mbedtls_sha256_context* context, const unsigned char* input, std::size_t size);
int mbedtls_sha256_finish(mbedtls_sha256_context* context, unsigned char* output);
int mbedtls_sha256(const unsigned char* input, std::size_t size, unsigned char* output, int is_224);
}
