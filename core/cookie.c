#include "core/cookie.h"

/* What any browser may skip, control bytes too: under that a name is recognised. */
static bool
is_blank(char c)
{
    return (unsigned char)c <= ' ' || c == 127;
}

/* What every browser skips: only under that a value is believed. */
static bool
is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct bh_str
trim(struct bh_str text, bool (*skips)(char c))
{
    while (text.len > 0 && skips(text.data[0])) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && skips(text.data[text.len - 1]))
        text.len--;
    return text;
}

static bool
is_word(struct bh_str text, const char *word)
{
    return bh_str_eq_nocase(text, bh_str_of(word));
}

/* Domain=.acme.example.com and Domain=acme.example.com are the same. */
static bool
is_host(struct bh_str domain, struct bh_str host)
{
    if (domain.len > 0 && domain.data[0] == '.') {
        domain.data++;
        domain.len--;
    }
    return bh_str_eq_nocase(domain, host);
}

/* Browsers resolve no dots in a cookie's path, applications may. */
static bool
climbs(struct bh_str path)
{
    for (size_t i = 0; i + 2 < path.len; i++) {
        bool dots = memcmp(path.data + i, "/..", 3) == 0;
        if (dots && (i + 3 == path.len || path.data[i + 3] == '/'))
            return true;
    }
    return false;
}

static void
put_path(struct bh_buf *out, struct bh_str path, struct bh_str prefix)
{
    bh_buf_puts(out, "; Path=");
    bh_buf_str_add(out, prefix);
    if (path.len == 0 || path.data[0] != '/' || climbs(path))
        bh_buf_putc(out, '/');
    else
        bh_buf_str_add(out, path);
}

bool
bh_cookie_confine(
    struct bh_str cookie, struct bh_str host, struct bh_str prefix, struct bh_buf *out)
{
    struct bh_str part, rest, name, value;
    bool changed = false, has_path = false;
    bool more = bh_str_cut(cookie, ';', &part, &rest);
    bh_buf_str_add(out, more ? part : cookie);
    while (more) {
        struct bh_str attributes = rest;
        more = bh_str_cut(attributes, ';', &part, &rest);
        struct bh_str attribute = more ? part : attributes;
        bool pair = bh_str_cut(attribute, '=', &name, &value);
        name = trim(pair ? name : attribute, is_blank);
        value = pair ? trim(value, is_space) : BH_STR("");
        if (is_word(name, "domain") && !is_host(value, host)) {
            changed = true;
        } else if (prefix.len > 0 && is_word(name, "path")) {
            put_path(out, value, prefix);
            changed = has_path = true;
        } else {
            bh_buf_putc(out, ';');
            bh_buf_str_add(out, attribute);
        }
    }
    if (prefix.len > 0 && !has_path) {
        put_path(out, BH_STR(""), prefix);
        changed = true;
    }
    return changed;
}
