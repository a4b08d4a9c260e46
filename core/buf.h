/*
 * A text builder that remembers its own failure: append freely, ask once at
 * the end.
 *
 * A buffer has a limit.  It lies in storage of the caller (bh_buf_init) or
 * grows in an arena (bh_buf_init_arena).  The text is always NUL-terminated,
 * and the terminator does not count.
 */
#ifndef BH_CORE_BUF_H
#define BH_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/str.h"

struct bh_buf {
    char *data;
    size_t len;
    size_t cap;             /* bytes in ${data}, terminator included */
    size_t limit;           /* the most it may grow to, terminator included */
    struct bh_arena *arena; /* NULL: fixed storage */
    bool failed;
};

/** bh_buf_init(buf, storage, size): an empty text in ${size} ≥ 1 bytes of the caller's. */
void bh_buf_init(struct bh_buf *buf, char *storage, size_t size);

/**
 * bh_buf_init_arena(buf, arena, limit): an empty text that grows in ${arena} up to ${limit} bytes.
 */
void bh_buf_init_arena(struct bh_buf *buf, struct bh_arena *arena, size_t limit);

/** bh_buf_reset(buf): empty again, failure forgotten, storage kept. */
void bh_buf_reset(struct bh_buf *buf);

/** bh_buf_ok(buf): did everything fit? */
bool bh_buf_ok(const struct bh_buf *buf);

/** bh_buf_str(buf): the text; borrowed until the next append. */
struct bh_str bh_buf_str(const struct bh_buf *buf);

void bh_buf_add(struct bh_buf *buf, const void *data, size_t len);
void bh_buf_putc(struct bh_buf *buf, char c);
void bh_buf_puts(struct bh_buf *buf, const char *text);
void bh_buf_str_add(struct bh_buf *buf, struct bh_str s);
void bh_buf_printf(struct bh_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** bh_buf_int(buf, value): decimal digits, faster than printf. */
void bh_buf_int(struct bh_buf *buf, int64_t value);

/** bh_buf_hex(buf, data, len): lower-case hexadecimal digits. */
void bh_buf_hex(struct bh_buf *buf, const uint8_t *data, size_t len);

/** bh_buf_base64url(buf, data, len): RFC 4648 section 5, without padding. */
void bh_buf_base64url(struct bh_buf *buf, const uint8_t *data, size_t len);

/**
 * bh_buf_json(buf, s):
 * ${s} as a JSON string with its quotes.  Escapes control characters, quote
 * and backslash; bytes that are not UTF-8 become U+FFFD.
 */
void bh_buf_json(struct bh_buf *buf, struct bh_str s);

#endif
