#include "cli/yamltext.h"

#include <libfyaml.h>
#include <string.h>

struct bh_str
bh_yaml_skip_mark(struct bh_str text)
{
    if (bh_str_starts(text, "\xef\xbb\xbf"))
        return (struct bh_str){text.data + 3, text.len - 3};
    return text;
}

/* Does a line end at ${i}, and how many bytes is its end? */
static size_t
line_end(struct bh_str text, size_t i)
{
    if (text.data[i] == '\n')
        return 1;
    if (text.data[i] != '\r')
        return 0;
    return i + 1 < text.len && text.data[i + 1] == '\n' ? 2 : 1;
}

struct bh_yaml_mark
bh_yaml_walk(struct bh_str text, struct bh_yaml_cursor *cursor, size_t offset)
{
    struct bh_yaml_mark mark = cursor->mark;
    size_t i = cursor->offset;

    if (mark.line == 0 || offset < i) {
        mark = (struct bh_yaml_mark){1, 1};
        i = 0;
    }
    while (i < offset && i < text.len) {
        size_t end = line_end(text, i);
        if (end > 0 && i + end <= offset) {
            mark.line++;
            mark.column = 1;
        } else if (((unsigned char)text.data[i] & 0xc0) != 0x80) {
            mark.column++;
        }
        i += end > 0 ? end : 1;
    }
    *cursor = (struct bh_yaml_cursor){i, mark};
    return mark;
}

struct bh_yaml_mark
bh_yaml_mark_at(struct bh_str text, size_t offset)
{
    struct bh_yaml_cursor cursor = {0};

    return bh_yaml_walk(text, &cursor, offset);
}

struct bh_str
bh_yaml_line(struct bh_str text, unsigned line)
{
    size_t i = 0;
    size_t start;

    text = bh_yaml_skip_mark(text);
    for (; line > 1 && i < text.len; line--) {
        while (i < text.len && line_end(text, i) == 0)
            i++;
        if (i < text.len)
            i += line_end(text, i);
    }
    start = i;
    while (i < text.len && line_end(text, i) == 0)
        i++;
    return (struct bh_str){text.data + start, i - start};
}

struct bh_yaml_mark
bh_yaml_sign_before(struct bh_str text, char sign, const struct fy_mark *mark)
{
    size_t at = mark == NULL ? 0 : mark->input_pos;

    if (at >= text.len)
        return bh_yaml_mark_at(text, at);
    for (size_t back = at; back + 8 > at; back--) {
        if (text.data[back] == sign)
            return bh_yaml_mark_at(text, back);
        if (back == 0)
            break;
    }
    return bh_yaml_mark_at(text, at);
}

/* Bytes of the well-formed, printable character at ${i}; 0 where it is none. */
static size_t
character_at(struct bh_str text, size_t i)
{
    unsigned char c = (unsigned char)text.data[i];
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
        return 0;
    if (i + len > text.len || !bh_utf8_valid((struct bh_str){text.data + i, len}))
        return 0;
    return c == 0xc2 && (unsigned char)text.data[i + 1] < 0xa0 &&
                   (unsigned char)text.data[i + 1] != 0x85
               ? 0
               : len;
}

enum bh_code
bh_yaml_check_text(struct bh_str text, struct bh_yaml_mark *ret_mark, struct bh_error *err)
{
    for (size_t i = 0; i < text.len;) {
        size_t len = character_at(text, i);
        if (len == 0) {
            *ret_mark = bh_yaml_mark_at(text, i);
            if ((unsigned char)text.data[i] < 0x80 || (unsigned char)text.data[i] == 0xc2)
                return bh_fail(err, BH_E_INVALID, "a control character cannot stand here");
            return bh_fail(err, BH_E_INVALID, "the file is not UTF-8");
        }
        i += len;
    }
    return BH_OK;
}

static bool
is_one_of(struct bh_str text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (bh_str_is(text, *words))
            return true;
    return false;
}

static size_t
skip_digits(struct bh_str text, size_t i)
{
    while (i < text.len && text.data[i] >= '0' && text.data[i] <= '9')
        i++;
    return i;
}

/* 0o17, 0xff */
static bool
is_based(struct bh_str text)
{
    const char *digits = bh_str_starts(text, "0o") ? "01234567" : "0123456789abcdefABCDEF";

    if (text.len < 3 || (!bh_str_starts(text, "0o") && !bh_str_starts(text, "0x")))
        return false;
    for (size_t i = 2; i < text.len; i++)
        if (memchr(digits, text.data[i], strlen(digits)) == NULL)
            return false;
    return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool
is_decimal(struct bh_str text)
{
    size_t i = text.len > 0 && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;
    size_t whole = skip_digits(text, i) - i;
    size_t fraction = 0;
    size_t exponent;

    i += whole;
    if (i < text.len && text.data[i] == '.') {
        fraction = skip_digits(text, i + 1) - i - 1;
        i += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (i < text.len && (text.data[i] == 'e' || text.data[i] == 'E')) {
        i++;
        if (i < text.len && (text.data[i] == '-' || text.data[i] == '+'))
            i++;
        exponent = skip_digits(text, i) - i;
        if (exponent == 0)
            return false;
        i += exponent;
    }
    return i == text.len;
}

enum bh_json_kind
bh_yaml_resolve(struct bh_str text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    static const char *const specials[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF",
        "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN", NULL};

    if (is_one_of(text, nulls))
        return BH_JSON_NULL;
    if (is_one_of(text, trues))
        return BH_JSON_TRUE;
    if (is_one_of(text, falses))
        return BH_JSON_FALSE;
    if (is_based(text) || is_decimal(text) || is_one_of(text, specials))
        return BH_JSON_NUMBER;
    return BH_JSON_STRING;
}

const struct bh_yaml_node *
bh_yaml_node_of(const struct bh_json *json)
{
    return (const struct bh_yaml_node *)json;
}

/* Is ${name} the unescaped form of the pointer segment ${segment}? */
static bool
segment_is(struct bh_str name, struct bh_str segment)
{
    size_t n = 0;

    for (size_t i = 0; i < segment.len; i++, n++) {
        char c = segment.data[i];
        if (c == '~' && i + 1 < segment.len)
            c = segment.data[++i] == '1' ? '/' : '~';
        if (n >= name.len || name.data[n] != c)
            return false;
    }
    return n == name.len;
}

static const struct bh_json *
child_of(const struct bh_json *parent, struct bh_str segment)
{
    uint64_t index;
    bool indexed = parent->kind == BH_JSON_ARRAY && bh_str_uint(segment, 65536, &index);

    for (const struct bh_json *child = parent->first; child != NULL; child = child->next)
        if (indexed ? index-- == 0
                    : parent->kind == BH_JSON_OBJECT && segment_is(child->name, segment))
            return child;
    return NULL;
}

const struct bh_yaml_node *
bh_yaml_find(const struct bh_yaml_node *root, const char *pointer)
{
    const struct bh_json *at = &root->json;

    while (at != NULL && *pointer == '/') {
        size_t len = strcspn(pointer + 1, "/");
        at = child_of(at, (struct bh_str){pointer + 1, len});
        pointer += 1 + len;
    }
    return *pointer == '\0' ? bh_yaml_node_of(at) : NULL;
}
