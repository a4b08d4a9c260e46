/* What the unit tests of core share. */
#ifndef BH_TESTS_UNIT_CORE_TEST_H
#define BH_TESTS_UNIT_CORE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/str.h"

/* Says both codes by name where they differ. */
#define assert_code(actual, wanted)                                                                \
    do {                                                                                           \
        enum bh_code actual_ = (actual), wanted_ = (wanted);                                       \
        if (actual_ != wanted_)                                                                    \
            fail_msg("is %s, not %s", bh_code_slug(actual_), bh_code_slug(wanted_));               \
    } while (0)

#define assert_str(actual, wanted)                                                                 \
    do {                                                                                           \
        struct bh_str str_ = (actual);                                                             \
        assert_int_equal(str_.len, strlen(wanted));                                                \
        assert_memory_equal(str_.data, wanted, str_.len);                                          \
    } while (0)

/* A heap copy of exactly ${len} bytes, so that the sanitizer sees each byte read too many. */
static inline char *
exact_copy(const char *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

/* xorshift64*: the same numbers in each run. */
static inline uint64_t
next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

#endif
