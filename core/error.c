#include "core/error.h"

#include <stdio.h>
#include <string.h>

#include "core/str.h"

#undef bh_fail /* macros for the analyzer */
#undef bh_fail_at
#undef bh_hint

struct row {
    const char *slug;
    int http;
    int exit_code;
    const char *sqlstate;
    const char *title;
};

static const struct row rows[BH_CODE_COUNT] = {
    [BH_OK] = {"ok", 200, 0, "00000", "OK"},
#define BH_ERROR(name, slug, http, exit_code, sqlstate, title)                                     \
    [BH_E_##name] = {slug, http, exit_code, sqlstate, title},
#include "core/tbl/errors.def"
#undef BH_ERROR
};

static const struct row *
row_of(enum bh_code code)
{
    return (unsigned)code < BH_CODE_COUNT ? &rows[code] : &rows[BH_E_INTERNAL];
}

static void format(char *ret_text, size_t size, const char *fmt, va_list args) BH_PRINTF(3, 0);

/* By way of a copy, as an argument may be the very text that is replaced; no character is halved.
 */
static void
format(char *ret_text, size_t size, const char *fmt, va_list args)
{
    char text[BH_DETAIL_MAX];
    int len = vsnprintf(text, size, fmt, args);
    if (len < 0)
        text[0] = '\0';
    size_t end = strlen(text);
    if (len > 0 && (size_t)len >= size)
        end = bh_utf8_prefix((struct bh_str){text, end});
    memcpy(ret_text, text, end);
    ret_text[end] = '\0';
}
_Static_assert(BH_HINT_MAX <= BH_DETAIL_MAX && BH_POINTER_MAX <= BH_DETAIL_MAX, "one size fits");

enum bh_code
bh_fail(struct bh_error *err, enum bh_code code, const char *fmt, ...)
{
    if (err == NULL)
        return code;
    va_list args;
    va_start(args, fmt);
    format(err->detail, sizeof(err->detail), fmt, args);
    va_end(args);
    err->code = code;
    err->hint[0] = '\0';
    err->pointer[0] = '\0';
    return code;
}

static void copy_pointer(char ret_pointer[BH_POINTER_MAX], const char *fmt, ...) BH_PRINTF(2, 3);

static void
copy_pointer(char ret_pointer[BH_POINTER_MAX], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    format(ret_pointer, BH_POINTER_MAX, fmt, args);
    va_end(args);
}

enum bh_code
bh_fail_at(struct bh_error *err, enum bh_code code, const char *pointer, const char *fmt, ...)
{
    if (err == NULL)
        return code;
    char place[BH_POINTER_MAX];
    copy_pointer(place, "%s", pointer);
    va_list args;
    va_start(args, fmt);
    format(err->detail, sizeof(err->detail), fmt, args);
    va_end(args);
    err->code = code;
    err->hint[0] = '\0';
    memcpy(err->pointer, place, sizeof(place));
    return code;
}

enum bh_code
bh_hint(struct bh_error *err, const char *fmt, ...)
{
    if (err == NULL)
        return BH_E_INTERNAL;
    va_list args;
    va_start(args, fmt);
    format(err->hint, sizeof(err->hint), fmt, args);
    va_end(args);
    return err->code;
}

int
bh_code_http(enum bh_code code)
{
    return row_of(code)->http;
}

int
bh_code_exit(enum bh_code code)
{
    return row_of(code)->exit_code;
}

const char *
bh_code_slug(enum bh_code code)
{
    return row_of(code)->slug;
}

const char *
bh_code_sqlstate(enum bh_code code)
{
    return row_of(code)->sqlstate;
}

const char *
bh_code_title(enum bh_code code)
{
    return row_of(code)->title;
}

enum bh_code
bh_code_find(const char *slug)
{
    for (unsigned code = BH_OK; code < BH_CODE_COUNT; code++) {
        if (strcmp(rows[code].slug, slug) == 0)
            return (enum bh_code)code;
    }
    return BH_E_INTERNAL;
}
