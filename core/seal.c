#include "core/seal.h"

#include <openssl/evp.h>

#include "core/codec.h"

#define SEALED_MAX (BH_SEAL_NONCE + BH_SEAL_PLAIN_MAX + BH_SEAL_TAG)

/* One pass of the cipher: the name is authenticated, ${in} becomes ${out}. */
static bool
run(EVP_CIPHER_CTX *ctx, struct bh_str name, struct bh_str in, uint8_t *out)
{
    int len;
    return EVP_CipherUpdate(ctx, NULL, &len, (const unsigned char *)name.data, (int)name.len) ==
               1 &&
           EVP_CipherUpdate(ctx, out, &len, (const unsigned char *)in.data, (int)in.len) == 1 &&
           (size_t)len == in.len;
}

static bool
begin(EVP_CIPHER_CTX *ctx, const struct bh_key *key, const uint8_t *nonce, int encrypt)
{
    return ctx != NULL &&
           EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->bytes, nonce, encrypt) == 1;
}

enum bh_code
bh_seal(const struct bh_key *key, const uint8_t nonce[BH_SEAL_NONCE], struct bh_str name,
    struct bh_str plain, struct bh_buf *out, struct bh_error *err)
{
    uint8_t sealed[SEALED_MAX];
    uint8_t *body = sealed + BH_SEAL_NONCE;
    int len;
    if (plain.len > BH_SEAL_PLAIN_MAX)
        return bh_fail(
            err, BH_E_TOO_LARGE, "a secret to seal has at most %d bytes", BH_SEAL_PLAIN_MAX);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    memcpy(sealed, nonce, BH_SEAL_NONCE);
    bool done = begin(ctx, key, nonce, 1) && run(ctx, name, plain, body) &&
                EVP_CipherFinal_ex(ctx, body + plain.len, &len) == 1 &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, BH_SEAL_TAG, body + plain.len) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (done)
        bh_buf_base64url(out, sealed, BH_SEAL_NONCE + plain.len + BH_SEAL_TAG);
    else
        bh_wipe(sealed, sizeof(sealed)); /* an unfinished pass may have left plain bytes */
    return done ? BH_OK : bh_fail(err, BH_E_INTERNAL, "libcrypto failed at AES-256-GCM");
}

static bool
open_bytes(const struct bh_key *key, struct bh_str name, uint8_t *sealed, size_t len, uint8_t *out)
{
    size_t plain_len = len - BH_SEAL_NONCE - BH_SEAL_TAG;
    struct bh_str body = {(const char *)sealed + BH_SEAL_NONCE, plain_len};
    int last;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool right = begin(ctx, key, sealed, 0) &&
                 EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, BH_SEAL_TAG,
                     sealed + BH_SEAL_NONCE + plain_len) == 1 &&
                 run(ctx, name, body, out) && EVP_CipherFinal_ex(ctx, out + plain_len, &last) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return right;
}

enum bh_code
bh_unseal(const struct bh_key *key, struct bh_str name, struct bh_str sealed, struct bh_buf *plain,
    struct bh_error *err)
{
    uint8_t bytes[SEALED_MAX], out[BH_SEAL_PLAIN_MAX];
    size_t len;
    bool right = bh_base64url_decode(sealed, bytes, sizeof(bytes), &len) &&
                 len >= BH_SEAL_NONCE + BH_SEAL_TAG && open_bytes(key, name, bytes, len, out);
    if (right) {
        bh_buf_reset(plain);
        bh_buf_add(plain, out, len - BH_SEAL_NONCE - BH_SEAL_TAG);
        bh_wipe(out, len - BH_SEAL_NONCE - BH_SEAL_TAG);
        return bh_buf_ok(plain) ? BH_OK
                                : bh_fail(err, BH_E_TOO_LARGE, "an opened secret is too large");
    }
    bh_wipe(out, sizeof(out));
    return bh_fail(err, BH_E_INVALID, "a sealed secret is not whole, or of another key or name");
}
