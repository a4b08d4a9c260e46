/* A handshake's name is what the bytes say, canonical, or none. */
#include "tests/fuzz/fuzz.h"

#include "core/sni.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_sni sni, again;
    char *exact = malloc(size + 1);
    MUST(exact != NULL);
    memcpy(exact, data, size);
    bool taken = bh_sni_extension((const uint8_t *)exact, size, &sni);
    MUST(taken == (sni.len > 0) && sni.len == strlen(sni.text) && sni.len <= BH_DOMAIN_MAX);
    if (taken) {
        MUST(size >= 5 + sni.len && strncasecmp(exact + 5, sni.text, sni.len) == 0);
        MUST(size - 5 - sni.len <= 1); /* the last dot */
        MUST(bh_sni_name((struct bh_str){sni.text, sni.len}, &again) ||
             sni.text[sni.len - 1] == '.');
    }
    free(exact);
    return 0;
}
