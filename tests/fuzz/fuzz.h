/* What the fuzz targets share: a check that ends the run, and a MAC under a fixed key. */
#ifndef BH_TESTS_FUZZ_FUZZ_H
#define BH_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/key.h"
#include "core/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: property violated: %s\n", __FILE__, __LINE__, #condition);     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline struct bh_mac *
fixed_mac(void)
{
    static struct bh_mac *mac;
    static const struct bh_key key = {{1, 2, 3, 4, 5, 6, 7, 8, 9}};
    if (mac == NULL)
        MUST(bh_mac_new(&key, &mac, NULL) == BH_OK);
    return mac;
}

/*
 * A fuzzer never guesses base64 and a signature.  So an input with a newline is also taken as
 * header and payload, from which a rightly signed token is made in ${out}.
 */
static inline bool
make_signed(struct bh_str input, struct bh_buf *out)
{
    struct bh_str header, payload;
    uint8_t tag[BH_MAC_BYTES];
    if (!bh_str_cut(input, '\n', &header, &payload))
        return false;
    bh_buf_base64url(out, (const uint8_t *)header.data, header.len);
    bh_buf_putc(out, '.');
    bh_buf_base64url(out, (const uint8_t *)payload.data, payload.len);
    MUST(bh_mac_run(fixed_mac(), bh_buf_str(out), tag, NULL) == BH_OK);
    bh_buf_putc(out, '.');
    bh_buf_base64url(out, tag, sizeof(tag));
    return bh_buf_ok(out);
}

#endif
