#include "cli/plan.h"

#include <string.h>

#include "cli/out.h"

enum kind { KIND_STRING, KIND_INT, KIND_TREE, KIND_WORDS };

/* The same rows as the validator's (core/tbl/tenant_fields.def), without what names the document.
 */
struct row {
    const char *parent; /* member that holds it, or NULL */
    const char *name;
    enum kind kind;
    size_t offset;
};

static const struct row tenant_rows[] = {
#define BH_TENANT_FIELD(member, text, kind, least, most, rule)                                     \
    {NULL, text, KIND_##kind, offsetof(struct bh_tenant_doc, member)},
#define BH_TENANT_LIMIT(member, text, kind, least, most, rule)                                     \
    {"limits", text, KIND_##kind, offsetof(struct bh_tenant_doc, member)},
#define BH_TENANT_READ_ONLY(text)
#include "core/tbl/tenant_fields.def"
#undef BH_TENANT_FIELD
#undef BH_TENANT_LIMIT
#undef BH_TENANT_READ_ONLY
};
static const struct row tier_rows[] = {
    {NULL, "edge", KIND_TREE, offsetof(struct bh_tier_doc, edge)},
};

/* A document and its table. */
struct wish {
    const void *doc;
    const struct row *rows;
    size_t count;
};

static struct wish
tenant_wish(const struct bh_tenant_doc *doc)
{
    /* The first row is the id, which no body repeats. */
    return (struct wish){doc, tenant_rows + 1, sizeof(tenant_rows) / sizeof(tenant_rows[0]) - 1};
}

static struct wish
wish_of(const struct bh_file *file)
{
    if (file->tier)
        return (struct wish){&file->tier_doc, tier_rows, sizeof(tier_rows) / sizeof(tier_rows[0])};
    return tenant_wish(&file->doc);
}

/* The other library's form of a tree that was read from a file. */
static json_t *
convert(const struct bh_json *value)
{
    struct bh_chunks chunks;
    struct bh_buf text;
    json_t *result;

    bh_chunks_init(&chunks);
    bh_buf_init_arena(&text, &chunks.arena, 8 * BH_TENANT_DOC_MAX);
    bh_json_write(&text, value);
    result = bh_buf_ok(&text) ? json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL) : NULL;
    bh_chunks_fini(&chunks);
    return result;
}

static const void *
place(const struct row *row, const struct wish *wish)
{
    return (const char *)wish->doc + row->offset;
}

static bool
is_stated(const struct row *row, const struct wish *wish)
{
    const struct bh_json *value;

    if (row->kind == KIND_STRING || row->kind == KIND_INT)
        return true;
    memcpy(&value, place(row, wish), sizeof(value));
    return value != NULL;
}

static json_t *
wanted(const struct row *row, const struct wish *wish)
{
    const struct bh_json *value;
    struct bh_str text;
    int64_t number;

    if (row->kind == KIND_INT) {
        memcpy(&number, place(row, wish), sizeof(number));
        return json_integer(number);
    }
    if (row->kind == KIND_STRING) {
        memcpy(&text, place(row, wish), sizeof(text));
        return json_stringn(text.data, text.len);
    }
    memcpy(&value, place(row, wish), sizeof(value));
    if (value != NULL)
        return convert(value);
    return row->kind == KIND_TREE ? json_object() : json_array();
}

static json_t *
body_of(const struct wish *wish)
{
    json_t *body = json_object();

    for (size_t i = 0; i < wish->count; i++) {
        const struct row *row = &wish->rows[i];
        json_t *into = body;
        if (!is_stated(row, wish))
            continue;
        if (row->parent != NULL && json_object_get(body, row->parent) == NULL)
            (void)json_object_set_new(body, row->parent, json_object());
        if (row->parent != NULL)
            into = json_object_get(body, row->parent);
        if (json_object_set_new(into, row->name, wanted(row, wish)) != 0) {
            json_decref(body);
            return NULL;
        }
    }
    return body;
}

json_t *
bh_plan_body(const struct bh_tenant_doc *doc)
{
    const struct wish wish = tenant_wish(doc);
    return body_of(&wish);
}

json_t *
bh_plan_file_body(const struct bh_file *file)
{
    const struct wish wish = wish_of(file);
    return body_of(&wish);
}

static void
add_change(json_t *changes, const char *pointer, const json_t *from, const json_t *to)
{
    (void)json_array_append_new(
        changes, json_pack("{s:s, s:o, s:o}", "pointer", pointer, "from",
                     from == NULL ? json_null() : json_incref((json_t *)from), "to",
                     to == NULL ? json_null() : json_incref((json_t *)to)));
}

/* Member by member, so that one line tells one setting. */
static void
compare_trees(json_t *changes, const char *pointer, const json_t *from, const json_t *to)
{
    const char *name;
    json_t *value;
    char inner[160];

    json_object_foreach((json_t *)from, name, value)
    {
        const json_t *other = json_object_get(to, name);
        (void)snprintf(inner, sizeof(inner), "%s/%s", pointer, name);
        if (other == NULL || !json_equal(value, other))
            add_change(changes, inner, value, other);
    }
    json_object_foreach((json_t *)to, name, value)
    {
        (void)snprintf(inner, sizeof(inner), "%s/%s", pointer, name);
        if (json_object_get(from, name) == NULL)
            add_change(changes, inner, NULL, value);
    }
}

static void
compare_row(const struct row *row, const struct wish *wish, const json_t *current, json_t *changes)
{
    const json_t *holder = row->parent == NULL ? current : json_object_get(current, row->parent);
    const json_t *from = json_object_get(holder, row->name);
    json_t *to = wanted(row, wish);
    bool none = from == NULL && row->kind == KIND_WORDS && json_array_size(to) == 0;
    char pointer[128];

    (void)snprintf(pointer, sizeof(pointer), "%s%s/%s", row->parent == NULL ? "" : "/",
        row->parent == NULL ? "" : row->parent, row->name);
    if (row->kind == KIND_TREE)
        compare_trees(changes, pointer, from, to);
    else if (!none && !json_equal(from, to))
        add_change(changes, pointer, from, to);
    json_decref(to);
}

static enum bh_action
compare(const struct wish *wish, const json_t *current, json_t **ret_changes)
{
    *ret_changes = json_array();
    for (size_t i = 0; i < wish->count; i++)
        compare_row(&wish->rows[i], wish, current, *ret_changes);
    if (current == NULL)
        return BH_ACTION_CREATE;
    return json_array_size(*ret_changes) > 0 ? BH_ACTION_CHANGE : BH_ACTION_NONE;
}

enum bh_action
bh_plan_compare(const struct bh_tenant_doc *doc, const json_t *current, json_t **ret_changes)
{
    const struct wish wish = tenant_wish(doc);
    return compare(&wish, current, ret_changes);
}

const char *
bh_plan_path(struct bh_client *client, const struct bh_file *file)
{
    return bh_client_path(
        client, file->tier ? "/v1/tiers/%s" : "/v1/tenants/%s", bh_client_escape(client, file->id));
}

enum bh_code
bh_plan_make(struct bh_client *client, const struct bh_file *file, struct bh_plan *ret_plan,
    struct bh_error *err)
{
    struct bh_request request = {.method = "GET"};
    struct bh_answer answer;
    enum bh_code code;

    *ret_plan = (struct bh_plan){.file = file};
    request.path = bh_plan_path(client, file);
    code = bh_client_call(client, &request, &answer, err);
    if (code == BH_OK)
        ret_plan->current = answer.body;
    else
        json_decref(answer.body);
    if (code != BH_OK && code != BH_E_NOT_FOUND)
        return code;
    const struct wish wish = wish_of(file);
    ret_plan->action = compare(&wish, ret_plan->current, &ret_plan->changes);
    return BH_OK;
}

void
bh_plan_free(struct bh_plan *plan)
{
    json_decref(plan->changes);
    json_decref(plan->current);
    plan->changes = NULL;
    plan->current = NULL;
}

static const struct {
    const char *word;
    const char *sign;
    enum bh_color color;
} actions[] = {
    [BH_ACTION_CREATE] = {"create", "+", BH_COLOR_GREEN},
    [BH_ACTION_CHANGE] = {"change", "~", BH_COLOR_YELLOW},
    [BH_ACTION_NONE] = {"none", "=", BH_COLOR_DIM},
};

json_t *
bh_plan_json(const struct bh_plan *plan)
{
    return json_pack("{s:s, s:s, s:O}", "id", plan->file->label, "action",
        actions[plan->action].word, "changes", plan->changes);
}

static void
print_value(FILE *out, const json_t *value)
{
    if (json_is_string(value))
        bh_out_text(out, (struct bh_str){json_string_value(value), json_string_length(value)});
    else if (json_is_integer(value))
        (void)fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_null(value))
        (void)fputs("(none)", out);
    else
        bh_out_value(out, value);
}

void
bh_plan_print(FILE *out, const struct bh_plan *plan)
{
    size_t i;
    json_t *change;

    (void)fprintf(out, "%s%s %-14s %s%s\n", bh_out_paint(out, actions[plan->action].color),
        actions[plan->action].sign, plan->file->label,
        plan->action == BH_ACTION_NONE ? "unchanged" : actions[plan->action].word,
        bh_out_paint(out, BH_COLOR_NONE));
    json_array_foreach(plan->changes, i, change)
    {
        const json_t *from = json_object_get(change, "from");
        (void)fputs("    ", out);
        for (const char *at = bh_json_text(change, "pointer") + 1; *at != '\0'; at++)
            (void)fputc(*at == '/' ? '.' : *at, out);
        (void)fputs(": ", out);
        if (!json_is_null(from)) {
            print_value(out, from);
            (void)fputs(" -> ", out);
        }
        print_value(out, json_object_get(change, "to"));
        (void)fputc('\n', out);
    }
}
