/* Any bytes have a fingerprint; blanks and a comment around them do not change it, nor does their
 * place in memory. */
#include "tests/fuzz/fuzz.h"

#include "data/fingerprint.h"

static const char before[] = "\t/* ' */ -- $$\n", after[] = "\n-- (;"; /* closes no quote */

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t hash = bh_fingerprint((struct bh_str){(const char *)data, size});
    size_t head = sizeof(before) - 1, tail = sizeof(after) - 1;
    char *padded = malloc(head + size + tail);

    MUST(padded != NULL);
    memcpy(padded, before, head);
    memcpy(padded + head, data, size);
    memcpy(padded + head + size, after, tail);
    if (head + size + tail <= BH_FINGERPRINT_MAX)
        MUST(bh_fingerprint((struct bh_str){padded, head + size + tail}) == hash);
    free(padded);
    return 0;
}
