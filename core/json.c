#include "core/json.h"

/* Reads a private copy of the text, in which strings are unescaped in place: they only shrink. */
struct parser {
    char *text;
    size_t len;
    size_t at;
    unsigned depth_left;
    struct bh_arena *arena;
    struct bh_error *err;
};

static enum bh_code parse_value(struct parser *p, struct bh_json **ret_value);

static enum bh_code
expected(const struct parser *p, const char *what)
{
    return bh_fail(p->err, BH_E_BAD_REQUEST, "JSON, byte %zu: expected %s", p->at, what);
}

static enum bh_code
no_memory(const struct parser *p)
{
    return bh_fail(p->err, BH_E_NO_MEMORY, "no memory for a JSON value");
}

/* The byte that comes next; 0, which is never right in JSON, at the end. */
static char
peek(const struct parser *p)
{
    return p->at < p->len ? p->text[p->at] : '\0';
}

static bool
take(struct parser *p, char c)
{
    if (peek(p) != c || p->at == p->len)
        return false;
    p->at++;
    return true;
}

static void
skip_space(struct parser *p)
{
    char c;
    while ((c = peek(p)) == ' ' || c == '\t' || c == '\n' || c == '\r')
        p->at++;
}

static bool
take_hex4(struct parser *p, uint32_t *ret_value)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = peek(p);
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        else
            return false;
        value = value << 4 | digit;
        p->at++;
    }
    *ret_value = value;
    return true;
}

static size_t
put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    out[0] = (char)(lead[len] | c);
    return len;
}

/* What \u stands for, with its second half where it is a surrogate. */
static enum bh_code
take_unicode(struct parser *p, uint32_t *ret_c)
{
    uint32_t c, low;
    if (!take_hex4(p, &c))
        return expected(p, "four hexadecimal digits");
    if (c == 0)
        return expected(p, "no NUL in a string");
    if (c >= 0xdc00 && c <= 0xdfff)
        return expected(p, "no lone surrogate");
    if (c >= 0xd800 && c <= 0xdbff) {
        if (!take(p, '\\') || !take(p, 'u') || !take_hex4(p, &low) || low < 0xdc00 || low > 0xdfff)
            return expected(p, "the second half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *ret_c = c;
    return BH_OK;
}

/* After a backslash: writes what it stands for to ${out}. */
static enum bh_code
take_escape(struct parser *p, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = peek(p);
    if (c == 'u') {
        uint32_t unicode = 0;
        p->at++;
        BH_TRY(take_unicode(p, &unicode));
        *out += put_utf8(*out, unicode);
        return BH_OK;
    }
    const char *known = c == '\0' ? NULL : strchr(from, c);
    if (known == NULL)
        return expected(p, "an escape that JSON knows");
    *(*out)++ = to[known - from];
    p->at++;
    return BH_OK;
}

static enum bh_code
parse_string(struct parser *p, struct bh_str *ret_text)
{
    if (!take(p, '"'))
        return expected(p, "a string");
    char *start = p->text + p->at, *out = start;
    while (!take(p, '"')) {
        if (p->at == p->len)
            return expected(p, "a closing quote");
        if ((unsigned char)peek(p) < 0x20)
            return expected(p, "no control character in a string");
        if (take(p, '\\'))
            BH_TRY(take_escape(p, &out));
        else
            *out++ = p->text[p->at++];
    }
    *ret_text = (struct bh_str){start, (size_t)(out - start)};
    return BH_OK;
}

static bool
skip_digits(struct parser *p)
{
    size_t start = p->at;
    while (peek(p) >= '0' && peek(p) <= '9')
        p->at++;
    return p->at > start;
}

static enum bh_code
parse_number(struct parser *p, struct bh_str *ret_text)
{
    size_t start = p->at;
    take(p, '-');
    if (!take(p, '0') && !skip_digits(p))
        return expected(p, "a digit");
    if (take(p, '.') && !skip_digits(p))
        return expected(p, "a digit");
    if (take(p, 'e') || take(p, 'E')) {
        if (!take(p, '-'))
            take(p, '+');
        if (!skip_digits(p))
            return expected(p, "a digit");
    }
    *ret_text = (struct bh_str){p->text + start, p->at - start};
    return BH_OK;
}

static int
compare_names(const struct bh_json *a, const struct bh_json *b)
{
    size_t len = a->name.len < b->name.len ? a->name.len : b->name.len;
    int order = len == 0 ? 0 : memcmp(a->name.data, b->name.data, len);
    if (order != 0)
        return order;
    return a->name.len < b->name.len ? -1 : a->name.len > b->name.len;
}

/* Lets the member at ${i} sink to its place in a heap of ${count}. */
static void
sink(const struct bh_json **heap, size_t i, size_t count)
{
    for (size_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && compare_names(heap[child], heap[child + 1]) < 0)
            child++;
        if (compare_names(heap[i], heap[child]) >= 0)
            return;
        const struct bh_json *moved = heap[i];
        heap[i] = heap[child];
        heap[child] = moved;
        i = child;
    }
}

/* Two members of one name?  By a heap, as an attacker chooses the names and their number. */
static enum bh_code
check_names(const struct parser *p, const struct bh_json *object, size_t count)
{
    if (count < 2)
        return BH_OK;
    const struct bh_json **heap = bh_arena_alloc(p->arena, count * sizeof(struct bh_json *));
    if (heap == NULL)
        return no_memory(p);
    size_t used = 0;
    for (const struct bh_json *member = object->first; member != NULL; member = member->next)
        heap[used++] = member;
    for (size_t i = count / 2; i-- > 0;)
        sink(heap, i, count);
    const struct bh_json *last = NULL;
    for (size_t rest = count; rest > 0; rest--) {
        if (last != NULL && compare_names(last, heap[0]) == 0)
            return expected(p, "each member of the object before this place only once");
        last = heap[0];
        heap[0] = heap[rest - 1];
        sink(heap, 0, rest - 1);
    }
    return BH_OK;
}

static enum bh_code
parse_member(struct parser *p, struct bh_json **ret_member)
{
    struct bh_str name;
    if (peek(p) != '"')
        return expected(p, "a member's name");
    BH_TRY(parse_string(p, &name));
    skip_space(p);
    if (!take(p, ':'))
        return expected(p, "a colon");
    BH_TRY(parse_value(p, ret_member));
    (*ret_member)->name = name;
    return BH_OK;
}

/* After the opening bracket; ${close} is its counterpart. */
static enum bh_code
parse_children(struct parser *p, struct bh_json *parent, char close)
{
    struct bh_json **link = &parent->first;
    size_t count = 0;
    skip_space(p);
    if (take(p, close))
        return BH_OK;
    do {
        skip_space(p);
        if (parent->kind == BH_JSON_OBJECT)
            BH_TRY(parse_member(p, link));
        else
            BH_TRY(parse_value(p, link));
        link = &(*link)->next;
        count++;
        skip_space(p);
    } while (take(p, ','));
    if (!take(p, close))
        return expected(
            p, close == '}' ? "a comma or a closing brace" : "a comma or a closing bracket");
    return parent->kind == BH_JSON_OBJECT ? check_names(p, parent, count) : BH_OK;
}

static enum bh_code
parse_container(struct parser *p, struct bh_json *value)
{
    bool object = take(p, '{');
    if (!object)
        p->at++;
    if (p->depth_left == 0)
        return expected(p, "fewer levels");
    value->kind = object ? BH_JSON_OBJECT : BH_JSON_ARRAY;
    p->depth_left--;
    BH_TRY(parse_children(p, value, object ? '}' : ']'));
    p->depth_left++;
    return BH_OK;
}

static enum bh_code
parse_word(struct parser *p, struct bh_json *value)
{
    static const struct {
        const char *text;
        enum bh_json_kind kind;
    } words[] = {{"true", BH_JSON_TRUE}, {"false", BH_JSON_FALSE}, {"null", BH_JSON_NULL}};
    struct bh_str rest = {p->text + p->at, p->len - p->at};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (bh_str_starts(rest, words[i].text)) {
            value->kind = words[i].kind;
            p->at += strlen(words[i].text);
            return BH_OK;
        }
    }
    return expected(p, "a value");
}

static enum bh_code
parse_value(struct parser *p, struct bh_json **ret_value)
{
    skip_space(p);
    struct bh_json *value = bh_arena_alloc(p->arena, sizeof(*value));
    if (value == NULL)
        return no_memory(p);
    *value = (struct bh_json){.name = {"", 0}, .text = {"", 0}};
    char c = peek(p);
    if (c == '{' || c == '[') {
        BH_TRY(parse_container(p, value));
    } else if (c == '"') {
        value->kind = BH_JSON_STRING;
        BH_TRY(parse_string(p, &value->text));
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        value->kind = BH_JSON_NUMBER;
        BH_TRY(parse_number(p, &value->text));
    } else {
        BH_TRY(parse_word(p, value));
    }
    *ret_value = value;
    return BH_OK;
}

enum bh_code
bh_json_parse(struct bh_str text, unsigned depth_max, struct bh_arena *arena,
    struct bh_json **ret_value, struct bh_error *err)
{
    struct parser p = {.len = text.len, .depth_left = depth_max, .arena = arena, .err = err};
    struct bh_json *value = NULL;
    p.at = bh_utf8_prefix(text);
    if (p.at < text.len)
        return expected(&p, "UTF-8");
    p.at = 0;
    p.text = bh_arena_strndup(arena, text.data, text.len);
    if (p.text == NULL)
        return no_memory(&p);
    BH_TRY(parse_value(&p, &value));
    skip_space(&p);
    if (p.at < p.len)
        return expected(&p, "nothing more");
    *ret_value = value;
    return BH_OK;
}

const struct bh_json *
bh_json_member(const struct bh_json *object, struct bh_str name)
{
    if (object == NULL || object->kind != BH_JSON_OBJECT)
        return NULL;
    const struct bh_json *member = object->first;
    while (member != NULL && !bh_str_eq(member->name, name))
        member = member->next;
    return member;
}

const struct bh_json *
bh_json_get(const struct bh_json *object, const char *name)
{
    return bh_json_member(object, bh_str_of(name));
}

bool
bh_json_string(const struct bh_json *object, const char *name, struct bh_str *ret_text)
{
    const struct bh_json *member = bh_json_get(object, name);
    if (member == NULL || member->kind != BH_JSON_STRING)
        return false;
    *ret_text = member->text;
    return true;
}

bool
bh_json_int(const struct bh_json *value, int64_t *ret_number)
{
    if (value == NULL || value->kind != BH_JSON_NUMBER)
        return false;
    struct bh_str digits = value->text;
    bool negative = bh_str_starts(digits, "-");
    if (negative) {
        digits.data++;
        digits.len--;
    }
    uint64_t number;
    if (!bh_str_uint(digits, (uint64_t)INT64_MAX + (negative ? 1 : 0), &number))
        return false;
    *ret_number = negative ? (int64_t)(0 - number) : (int64_t)number;
    return true;
}

/* ---- writing ---- */

/* What stands for a value that holds no others. */
static void
write_leaf(struct bh_buf *out, const struct bh_json *value)
{
    if (value->kind == BH_JSON_STRING)
        bh_buf_json(out, value->text);
    else if (value->kind == BH_JSON_NUMBER)
        bh_buf_str_add(out, value->text);
    else
        bh_buf_puts(out, value->kind == BH_JSON_TRUE    ? "true"
                         : value->kind == BH_JSON_FALSE ? "false"
                                                        : "null");
}

/* Trees that were read are at most BH_JSON_DEPTH deep. */
void
bh_json_write(struct bh_buf *out, const struct bh_json *value)
{
    bool object = value->kind == BH_JSON_OBJECT;
    if (!object && value->kind != BH_JSON_ARRAY) {
        write_leaf(out, value);
        return;
    }
    bh_buf_putc(out, object ? '{' : '[');
    for (const struct bh_json *child = value->first; child != NULL; child = child->next) {
        if (child != value->first)
            bh_buf_putc(out, ',');
        if (object) {
            bh_buf_json(out, child->name);
            bh_buf_putc(out, ':');
        }
        bh_json_write(out, child);
    }
    bh_buf_putc(out, object ? '}' : ']');
}
