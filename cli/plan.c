#include "cli/plan.h"

#include <string.h>

#include "cli/out.h"

/* The same rows as the validator's (core/tbl/tenant_fields.def), without the id. */
struct row {
    const char *parent; /* member that holds it, or NULL */
    const char *name;
    bool number;
    size_t offset;
};

#define KIND_STRING false
#define KIND_INT true

static const struct row rows[] = {
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
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static bool
is_id(const struct row *row)
{
    return row->offset == offsetof(struct bh_tenant_doc, id);
}

static json_t *
wanted(const struct row *row, const struct bh_tenant_doc *doc)
{
    const char *at = (const char *)doc + row->offset;
    struct bh_str text;
    int64_t number;

    if (row->number) {
        memcpy(&number, at, sizeof(number));
        return json_integer(number);
    }
    memcpy(&text, at, sizeof(text));
    return json_stringn(text.data, text.len);
}

json_t *
bh_plan_body(const struct bh_tenant_doc *doc)
{
    json_t *body = json_object();

    for (size_t i = 0; i < ROWS; i++) {
        json_t *into = body;
        if (is_id(&rows[i]))
            continue;
        if (rows[i].parent != NULL && json_object_get(body, rows[i].parent) == NULL)
            (void)json_object_set_new(body, rows[i].parent, json_object());
        if (rows[i].parent != NULL)
            into = json_object_get(body, rows[i].parent);
        if (json_object_set_new(into, rows[i].name, wanted(&rows[i], doc)) != 0) {
            json_decref(body);
            return NULL;
        }
    }
    return body;
}

enum bh_action
bh_plan_compare(const struct bh_tenant_doc *doc, const json_t *current, json_t **ret_changes)
{
    json_t *changes = json_array();

    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        const json_t *holder =
            row->parent == NULL ? current : json_object_get(current, row->parent);
        json_t *from = json_object_get(holder, row->name);
        json_t *to = wanted(row, doc);
        char pointer[128];
        (void)snprintf(pointer, sizeof(pointer), "%s%s/%s", row->parent == NULL ? "" : "/",
            row->parent == NULL ? "" : row->parent, row->name);
        if (!is_id(row) && !json_equal(from, to))
            (void)json_array_append_new(
                changes, json_pack("{s:s, s:o, s:O}", "pointer", pointer, "from",
                             from == NULL ? json_null() : json_incref(from), "to", to));
        json_decref(to);
    }
    *ret_changes = changes;
    if (current == NULL)
        return BH_ACTION_CREATE;
    return json_array_size(changes) > 0 ? BH_ACTION_CHANGE : BH_ACTION_NONE;
}

enum bh_code
bh_plan_make(struct bh_client *client, const struct bh_file *file, struct bh_plan *ret_plan,
    struct bh_error *err)
{
    struct bh_request request = {.method = "GET"};
    struct bh_answer answer;
    enum bh_code code;

    *ret_plan = (struct bh_plan){.file = file};
    request.path = bh_client_path(client, "/v1/tenants/%s", bh_client_escape(client, file->id));
    code = bh_client_call(client, &request, &answer, err);
    if (code == BH_OK)
        ret_plan->current = answer.body;
    else
        json_decref(answer.body);
    if (code != BH_OK && code != BH_E_NOT_FOUND)
        return code;
    ret_plan->action = bh_plan_compare(&file->doc, ret_plan->current, &ret_plan->changes);
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
    return json_pack("{s:s, s:s, s:O}", "id", plan->file->id, "action", actions[plan->action].word,
        "changes", plan->changes);
}

static void
print_value(FILE *out, const json_t *value)
{
    if (json_is_string(value))
        bh_out_text(out, (struct bh_str){json_string_value(value), json_string_length(value)});
    else if (json_is_integer(value))
        (void)fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        (void)fputs("(none)", out);
}

void
bh_plan_print(FILE *out, const struct bh_plan *plan)
{
    size_t i;
    json_t *change;

    (void)fprintf(out, "%s%s %-14s %s%s\n", bh_out_paint(out, actions[plan->action].color),
        actions[plan->action].sign, plan->file->id,
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
