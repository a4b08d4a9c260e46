/* Tokens of an issuer with one Ed25519 key, for tests of what reads them. */
#ifndef BH_TESTS_UNIT_CORE_EDDSA_H
#define BH_TESTS_UNIT_CORE_EDDSA_H

#include <openssl/evp.h>

#include "core/buf.h"
#include "core/codec.h"
#include "tests/unit/core/test.h"

/* RFC 8037 appendix A.1 */
#define SECRET "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"

/* Adds a rightly signed token of these two texts. */
static inline void
put_eddsa_token(struct bh_buf *buf, const char *header, const char *payload)
{
    uint8_t secret[32], signature[64];
    size_t len = sizeof(signature);
    bh_buf_base64url(buf, (const uint8_t *)header, strlen(header));
    bh_buf_putc(buf, '.');
    bh_buf_base64url(buf, (const uint8_t *)payload, strlen(payload));
    assert_true(bh_base64url_decode(BH_STR(SECRET), secret, sizeof(secret), &len));
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    len = sizeof(signature);
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, signature, &len, (const uint8_t *)buf->data, buf->len), 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    bh_buf_putc(buf, '.');
    bh_buf_base64url(buf, signature, len);
}

#endif
