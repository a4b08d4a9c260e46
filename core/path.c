#include "core/path.h"

#include <string.h>

/* A path as nginx has it after normalising, so that no rule waits for what never comes. */
enum bh_code
bh_path_pattern_check(struct bh_str text, struct bh_error *err)
{
    bool ok = text.len >= 1 && text.data[0] == '/' && bh_utf8_valid(text);
    for (size_t i = 0; ok && i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        ok = c > ' ' && c != 0x7f && c != '?' && c != '#' && c != '\\' && c != '%';
        ok = ok && (c != '/' || i + 1 == text.len || text.data[i + 1] != '/');
    }
    struct bh_str rest = text, segment = {text.data, 0};
    for (bool more = ok; ok && more;
         ok = ok && !bh_str_is(segment, ".") && !bh_str_is(segment, "..")) {
        more = bh_str_cut(rest, '/', &segment, &rest);
        if (!more)
            segment = rest;
        else if (bh_str_is(segment, "**"))
            ok = false;
    }
    return ok ? BH_OK
              : bh_fail(err, BH_E_INVALID,
                    "must be a plain path: / first, no //, dots, ? # %% or \\, ** only at its end");
}

/* The first segment of ${path}, which begins with a slash, and what follows it. */
static struct bh_str
next_segment(struct bh_str *path)
{
    size_t end = 1;
    while (end < path->len && path->data[end] != '/')
        end++;
    struct bh_str segment = {path->data + 1, end - 1};
    *path = (struct bh_str){path->data + end, path->len - end};
    return segment;
}

/* Up to its first segment that is no name; `**` stands for no further segment too. */
size_t
bh_path_literal(struct bh_str path)
{
    struct bh_str rest = path;
    while (rest.len > 0) {
        size_t at = path.len - rest.len;
        struct bh_str segment = next_segment(&rest);
        if (bh_str_is(segment, "**"))
            return at;
        if (bh_str_is(segment, "*"))
            return at + 1;
    }
    return path.len;
}

bool
bh_path_matches(struct bh_str pattern, struct bh_str path)
{
    while (pattern.len > 0) {
        struct bh_str wanted = next_segment(&pattern);
        if (bh_str_is(wanted, "**"))
            return true; /* also where nothing follows */
        if (path.len == 0)
            return false;
        struct bh_str segment = next_segment(&path);
        if (!bh_str_is(wanted, "*") && !bh_str_eq(wanted, segment))
            return false;
        if (bh_str_is(wanted, "*") && segment.len == 0)
            return false;
    }
    return path.len == 0;
}

static bool
is_hex_of(struct bh_str raw, size_t at, char high, const char *low)
{
    char second = raw.data[at + 2];
    if (second >= 'A' && second <= 'F')
        second = (char)(second + 'a' - 'A');
    return raw.data[at + 1] == high && strchr(low, second) != NULL;
}

/* %2e %2f . /, %5c \, %3b ;, %25 % (a second decoding), %00-%1f what ends a text */
static bool
is_odd_escape(struct bh_str raw, size_t at)
{
    return at + 2 >= raw.len || is_hex_of(raw, at, '2', "5ef") || is_hex_of(raw, at, '5', "c") ||
           is_hex_of(raw, at, '3', "b") || raw.data[at + 1] == '0' || raw.data[at + 1] == '1';
}

/* The segment behind the slash at ${at}: is it `.` or `..`? */
static bool
is_dots(struct bh_str raw, size_t at)
{
    size_t end = at + 1;
    while (end < raw.len && raw.data[end] == '.')
        end++;
    size_t dots = end - at - 1;
    bool closed = end == raw.len || raw.data[end] == '/' || raw.data[end] == '?';
    return closed && (dots == 1 || dots == 2);
}

bool
bh_path_plain(struct bh_str raw)
{
    for (size_t i = 0; i < raw.len && raw.data[i] != '?'; i++) {
        char c = raw.data[i];
        /* What follows ; is a parameter to some readers, what follows # nothing at all. */
        if (c == '\\' || c == ';' || c == '#' || (c == '%' && is_odd_escape(raw, i)))
            return false;
        if (c == '/' && (is_dots(raw, i) || (i + 1 < raw.len && raw.data[i + 1] == '/')))
            return false;
    }
    return true;
}
