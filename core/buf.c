#include "core/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define FIRST_BYTES 128

void
bh_buf_init(struct bh_buf *buf, char *storage, size_t size)
{
    *buf = (struct bh_buf){.data = storage, .cap = size, .limit = size};
    storage[0] = '\0';
}

void
bh_buf_init_arena(struct bh_buf *buf, struct bh_arena *arena, size_t limit)
{
    /* Nobody writes where cap is 0, so a constant may stand for the empty text. */
    *buf = (struct bh_buf){.data = (char *)(uintptr_t) "", .limit = limit, .arena = arena};
}

void
bh_buf_reset(struct bh_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
    if (buf->cap > 0)
        buf->data[0] = '\0';
}

bool
bh_buf_ok(const struct bh_buf *buf)
{
    return !buf->failed;
}

struct bh_str
bh_buf_str(const struct bh_buf *buf)
{
    return (struct bh_str){buf->data, buf->len};
}

static bool
grow(struct bh_buf *buf, size_t need)
{
    size_t cap = buf->cap < FIRST_BYTES / 2 ? FIRST_BYTES : buf->cap * 2;
    if (cap < need)
        cap = need;
    if (cap > buf->limit)
        cap = buf->limit;
    char *data = bh_arena_alloc(buf->arena, cap);
    if (data == NULL)
        return false;
    memcpy(data, buf->data, buf->len + 1);
    buf->data = data;
    buf->cap = cap;
    return true;
}

/* Room for ${len} more bytes and the terminator; once something did not fit, nothing does. */
static bool
reserve(struct bh_buf *buf, size_t len)
{
    if (buf->failed)
        return false;
    bool fits = buf->limit > buf->len && len < buf->limit - buf->len;
    size_t need = buf->len + len + 1;
    if (fits && need > buf->cap)
        fits = buf->arena != NULL && grow(buf, need);
    buf->failed = !fits;
    return fits;
}

void
bh_buf_add(struct bh_buf *buf, const void *data, size_t len)
{
    if (!reserve(buf, len))
        return;
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void
bh_buf_putc(struct bh_buf *buf, char c)
{
    bh_buf_add(buf, &c, 1);
}

void
bh_buf_puts(struct bh_buf *buf, const char *text)
{
    bh_buf_add(buf, text, strlen(text));
}

void
bh_buf_str_add(struct bh_buf *buf, struct bh_str s)
{
    bh_buf_add(buf, s.data, s.len);
}

void
bh_buf_printf(struct bh_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0)
        buf->failed = true;
    if (len < 0 || !reserve(buf, (size_t)len))
        return;
    va_start(args, fmt);
    vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)len;
}

void
bh_buf_int(struct bh_buf *buf, int64_t value)
{
    char text[20];
    size_t at = sizeof(text);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        text[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0)
        text[--at] = '-';
    bh_buf_add(buf, text + at, sizeof(text) - at);
}

void
bh_buf_hex(struct bh_buf *buf, const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    if (len > SIZE_MAX / 4 || !reserve(buf, len * 2)) {
        buf->failed = true;
        return;
    }
    char *out = buf->data + buf->len;
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[data[i] >> 4];
        *out++ = digits[data[i] & 15];
    }
    *out = '\0';
    buf->len += len * 2;
}

void
bh_buf_base64url(struct bh_buf *buf, const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t text_len = len / 3 * 4 + (len % 3 == 0 ? 0 : len % 3 + 1);
    if (len > SIZE_MAX / 4 || !reserve(buf, text_len)) {
        buf->failed = true;
        return;
    }
    char *out = buf->data + buf->len;
    for (; len >= 3; len -= 3, data += 3) {
        uint32_t bits = (uint32_t)data[0] << 16 | (uint32_t)data[1] << 8 | data[2];
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = digits[bits >> 6 & 63];
        *out++ = digits[bits & 63];
    }
    if (len > 0) {
        uint32_t bits = (uint32_t)data[0] << 16 | (len == 2 ? (uint32_t)data[1] << 8 : 0);
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        if (len == 2)
            *out++ = digits[bits >> 6 & 63];
    }
    *out = '\0';
    buf->len += text_len;
}

static void
add_json_byte(struct bh_buf *buf, unsigned char c)
{
    static const char *const names[256] = {
        ['"'] = "\\\"",
        ['\\'] = "\\\\",
        ['\b'] = "\\b",
        ['\f'] = "\\f",
        ['\n'] = "\\n",
        ['\r'] = "\\r",
        ['\t'] = "\\t",
    };
    if (names[c] != NULL)
        bh_buf_puts(buf, names[c]);
    else
        bh_buf_printf(buf, "\\u%04x", c);
}

void
bh_buf_json(struct bh_buf *buf, struct bh_str s)
{
    bh_buf_putc(buf, '"');
    size_t valid = bh_utf8_prefix(s);
    size_t start = 0; /* of the bytes that can be copied as they are */
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        bool plain = i < valid && c >= 0x20 && c != '"' && c != '\\';
        if (plain)
            continue;
        bh_buf_add(buf, s.data + start, i - start);
        start = i + 1;
        if (i < valid) {
            add_json_byte(buf, c);
            continue;
        }
        bh_buf_puts(buf, "\xef\xbf\xbd");
        valid = i + 1 + bh_utf8_prefix((struct bh_str){s.data + i + 1, s.len - i - 1});
    }
    bh_buf_add(buf, s.data + start, s.len - start);
    bh_buf_putc(buf, '"');
}
