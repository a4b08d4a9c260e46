#include "control/api/query.h"

#include "core/buf.h"
#include "core/codec.h"

bool
bh_percent_decode(struct bh_str raw, bool plus, struct bh_arena *arena, struct bh_str *ret_text)
{
    char *text = bh_arena_alloc(arena, raw.len + 1);
    size_t len = 0;

    if (text == NULL)
        return false;
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t byte = (uint8_t)raw.data[i];
        if (byte == '%') {
            struct bh_str digits = {raw.data + i + 1, 2};
            if (raw.len - i < 3 || !bh_hex_decode(digits, &byte, 1))
                return false;
            i += 2;
        } else if (byte == '+' && plus) {
            byte = ' ';
        }
        if (byte == '\0')
            return false;
        text[len++] = (char)byte;
    }
    text[len] = '\0';
    *ret_text = (struct bh_str){text, len};
    return bh_utf8_valid(*ret_text);
}

static void
report(struct bh_issues *issues, enum bh_issue_kind kind, struct bh_str name, const char *detail)
{
    const char *pointer = bh_arena_printf(issues->arena, "?%.*s", (int)name.len, name.data);

    if (pointer == NULL)
        issues->failed = true;
    else
        (void)bh_issues_add(issues, kind, NULL, pointer, detail);
}

static bool
listed(const char *const *known, struct bh_str name)
{
    for (; *known != NULL; known++)
        if (bh_str_is(name, *known))
            return true;
    return false;
}

static void
read_param(
    struct bh_str raw, const char *const *known, struct bh_issues *issues, struct bh_query *query)
{
    struct bh_param param = {.value = BH_STR("")};
    struct bh_str raw_name = raw;
    struct bh_str raw_value = {NULL, 0};

    (void)bh_str_cut(raw, '=', &raw_name, &raw_value);
    if (!bh_percent_decode(raw_name, true, issues->arena, &param.name) ||
        !listed(known, param.name)) {
        report(issues, BH_ISSUE_UNKNOWN, param.name.data == NULL ? raw_name : param.name,
            "is no parameter of this resource");
        return;
    }
    for (size_t i = 0; i < query->count; i++)
        if (bh_str_eq(query->params[i].name, param.name)) {
            report(issues, BH_ISSUE_VALUE, param.name, "is given twice");
            return;
        }
    if (!bh_percent_decode(raw_value, true, issues->arena, &param.value)) {
        report(issues, BH_ISSUE_VALUE, param.name, "must be percent-encoded UTF-8 without NUL");
        return;
    }
    if (query->count < BH_QUERY_MAX) /* always: names are unique and few are known */
        query->params[query->count++] = param;
}

void
bh_query_parse(struct bh_str raw, const char *const *known, struct bh_issues *issues,
    struct bh_query *ret_query)
{
    struct bh_str part;
    struct bh_str rest = raw;

    ret_query->count = 0;
    while (rest.len > 0) {
        if (!bh_str_cut(rest, '&', &part, &rest)) {
            part = rest;
            rest.len = 0;
        }
        if (part.len > 0)
            read_param(part, known, issues, ret_query);
    }
}

const char *
bh_query_get(const struct bh_query *query, const char *name)
{
    for (size_t i = 0; i < query->count; i++)
        if (bh_str_is(query->params[i].name, name))
            return query->params[i].value.data;
    return NULL;
}
