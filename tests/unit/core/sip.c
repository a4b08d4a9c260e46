/* SipHash against OpenSSL's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

#include "core/sip.h"

static void
ask_openssl(const uint8_t key[16], const uint8_t *data, size_t len, uint64_t ret_hash[2])
{
    unsigned int size = 16;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_uint("size", &size), OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    size_t out;
    assert_int_equal(EVP_MAC_init(ctx, key, 16, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, data, len), 1);
    assert_int_equal(EVP_MAC_final(ctx, (uint8_t *)ret_hash, &out, 16), 1);
    assert_int_equal(out, 16);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}

static void
equals_openssl_at_every_length_and_cut(void **state)
{
    uint8_t key[16], data[70];
    (void)state;
    for (size_t len = 0; len <= sizeof(data); len++) {
        uint64_t ours[2], theirs[2];
        struct bh_sip sip;
        size_t cut = len == 0 ? 0 : (len * 7) % len;
        assert_int_equal(RAND_bytes(key, sizeof(key)), 1);
        assert_int_equal(RAND_bytes(data, sizeof(data)), 1);
        bh_sip_begin(&sip, key);
        bh_sip_add(&sip, data, cut);
        bh_sip_add(&sip, data + cut, (len - cut) / 2);
        bh_sip_add(&sip, data + cut + (len - cut) / 2, len - cut - (len - cut) / 2);
        bh_sip_end(&sip, ours);
        ask_openssl(key, data, len, theirs);
        assert_memory_equal(ours, theirs, 16);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_openssl_at_every_length_and_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
