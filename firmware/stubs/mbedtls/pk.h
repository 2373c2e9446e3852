#pragma once

#include <cstddef>

enum mbedtls_pk_type_t { MBEDTLS_PK_NONE = 0, MBEDTLS_PK_ECDSA = 4 };
enum mbedtls_md_type_t { MBEDTLS_MD_NONE = 0, MBEDTLS_MD_SHA256 = 9 };

struct mbedtls_pk_context {
    const void* info;
    void* context;
};

extern "C" {
void mbedtls_pk_init(mbedtls_pk_context* context);
void mbedtls_pk_free(mbedtls_pk_context* context);
int mbedtls_pk_parse_public_key(mbedtls_pk_context* context, const unsigned char* key, std::size_t size);
int mbedtls_pk_can_do(const mbedtls_pk_context* context, mbedtls_pk_type_t type);
std::size_t mbedtls_pk_get_bitlen(const mbedtls_pk_context* context);
int mbedtls_pk_verify(mbedtls_pk_context* context, mbedtls_md_type_t md, const unsigned char* hash, std::size_t hash_size,
                      const unsigned char* signature, std::size_t signature_size);
}
