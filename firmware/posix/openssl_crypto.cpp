#include "openssl_crypto.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <string>

namespace ct::posix {

void OpensslCrypto::begin_hash() { EVP_DigestInit_ex(hash_, EVP_sha256(), nullptr); }

void OpensslCrypto::add(Bytes bytes) { EVP_DigestUpdate(hash_, bytes.data, bytes.size); }

void OpensslCrypto::end_hash(std::uint8_t (&to)[hash_size]) {
    unsigned size = 0;
    if (EVP_DigestFinal_ex(hash_, to, &size) != 1 || size != hash_size) {
        std::fill(std::begin(to), std::end(to), std::uint8_t{0});  // the hash of nothing that anybody has
    }
}

bool OpensslCrypto::is_signed(std::string_view key, std::string_view text, Bytes signature) {
    BIO* const reader = BIO_new_mem_buf(key.data(), static_cast<int>(key.size()));
    EVP_PKEY* const owner = reader != nullptr ? PEM_read_bio_PUBKEY(reader, nullptr, nullptr, nullptr) : nullptr;
    BIO_free(reader);
    char group[32] = {};
    const bool is_p256 = owner != nullptr && EVP_PKEY_get_group_name(owner, group, sizeof group, nullptr) == 1 &&
                         std::string_view(group) == "prime256v1";
    EVP_MD_CTX* const check = is_p256 ? EVP_MD_CTX_new() : nullptr;
    const bool is_right = check != nullptr && EVP_DigestVerifyInit(check, nullptr, EVP_sha256(), nullptr, owner) == 1 &&
                          EVP_DigestVerify(check, signature.data, signature.size,
                                           reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
    EVP_MD_CTX_free(check);
    EVP_PKEY_free(owner);
    ERR_clear_error();
    return is_right;
}

}  // namespace ct::posix
