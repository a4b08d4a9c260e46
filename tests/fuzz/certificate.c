/* Whatever is handed in as a certificate: no crash, no question on the terminal, nothing half done.
 */
#include "tests/fuzz/fuzz.h"

#include "control/certificate.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char der[16385];
    struct bh_buf key;
    struct bh_error err;
    struct bh_chunks chunks;
    struct bh_certificate_facts facts;
    struct bh_str chain, rest, text = {(const char *)data, size};
    if (!bh_str_cut(text, '\0', &chain, &rest))
        return 0;
    const struct bh_certificate_pem pem = {chain, rest};
    const struct bh_certificate_check check = {&pem, BH_STR("shop.example"), 1796000000};
    bh_chunks_init(&chunks);
    bh_buf_init(&key, der, sizeof(der));
    enum bh_code code = bh_certificate_check(&check, &chunks.arena, &facts, &key, &err);
    MUST(code == BH_OK || code == BH_E_INVALID);
    if (code == BH_OK)
        MUST(key.len > 0 && facts.not_after_us > 0 && bh_str_starts(bh_str_of(facts.names), "["));
    else
        MUST(strcmp(err.pointer, "/chain") == 0 || strcmp(err.pointer, "/key") == 0);
    bh_chunks_fini(&chunks);
    return 0;
}
