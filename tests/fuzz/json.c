/* What parses can be written and read again, and is the same tree. */
#include "tests/fuzz/fuzz.h"

#include "core/json.h"

static void
write_value(struct bh_buf *out, const struct bh_json *value, unsigned depth)
{
    static const char *const words[] = {
        [BH_JSON_TRUE] = "true", [BH_JSON_FALSE] = "false", [BH_JSON_NULL] = "null"};
    MUST(depth <= BH_JSON_DEPTH || (value->kind != BH_JSON_OBJECT && value->kind != BH_JSON_ARRAY));
    if (value->kind == BH_JSON_STRING) {
        MUST(bh_utf8_valid(value->text) && memchr(value->text.data, 0, value->text.len) == NULL);
        bh_buf_json(out, value->text);
    } else if (value->kind == BH_JSON_NUMBER) {
        bh_buf_str_add(out, value->text);
    } else if (value->kind != BH_JSON_OBJECT && value->kind != BH_JSON_ARRAY) {
        bh_buf_puts(out, words[value->kind]);
    } else {
        bool object = value->kind == BH_JSON_OBJECT;
        bh_buf_putc(out, object ? '{' : '[');
        for (const struct bh_json *child = value->first; child != NULL; child = child->next) {
            if (child != value->first)
                bh_buf_putc(out, ',');
            if (object) {
                bh_buf_json(out, child->name);
                bh_buf_putc(out, ':');
            }
            write_value(out, child, depth + 1);
        }
        bh_buf_putc(out, object ? '}' : ']');
    }
}

/* No two members of one name: found here the slow and plain way. */
static void
check_members(const struct bh_json *value)
{
    for (const struct bh_json *a = value->first; a != NULL; a = a->next) {
        check_members(a);
        if (value->kind != BH_JSON_OBJECT)
            continue;
        for (const struct bh_json *b = a->next; b != NULL; b = b->next)
            MUST(!bh_str_eq(a->name, b->name));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_str text = {(const char *)data, size};
    struct bh_chunks chunks;
    struct bh_json *value, *again;
    struct bh_buf first, second;
    struct bh_error err = {0};
    bh_chunks_init(&chunks);
    enum bh_code code = bh_json_parse(text, BH_JSON_DEPTH, &chunks.arena, &value, &err);
    MUST(code == BH_OK || (code == BH_E_BAD_REQUEST && err.detail[0] != '\0'));
    if (code == BH_OK) {
        check_members(value);
        bh_buf_init_arena(&first, &chunks.arena, 1 << 20);
        bh_buf_init_arena(&second, &chunks.arena, 1 << 20);
        write_value(&first, value, 1);
        MUST(bh_buf_ok(&first));
        MUST(
            bh_json_parse(bh_buf_str(&first), BH_JSON_DEPTH, &chunks.arena, &again, &err) == BH_OK);
        write_value(&second, again, 1);
        MUST(bh_str_eq(bh_buf_str(&first), bh_buf_str(&second)));
    }
    bh_chunks_fini(&chunks);
    return 0;
}
