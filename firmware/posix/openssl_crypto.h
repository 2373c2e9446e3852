// SHA-256 and signatures by OpenSSL's libcrypto.
#pragma once

#include <openssl/evp.h>

#include "ct/hal/update.h"

namespace ct::posix {

class OpensslCrypto final : public hal::Crypto {
public:
    OpensslCrypto() : hash_(EVP_MD_CTX_new()) {}
    ~OpensslCrypto() { EVP_MD_CTX_free(hash_); }
    OpensslCrypto(const OpensslCrypto&) = delete;
    OpensslCrypto& operator=(const OpensslCrypto&) = delete;

    void begin_hash() override;
    void add(Bytes bytes) override;
    void end_hash(std::uint8_t (&to)[hash_size]) override;
    bool is_signed(std::string_view key, std::string_view text, Bytes signature) override;

private:
    EVP_MD_CTX* hash_;
};

}  // namespace ct::posix
