#include "core/fields.h"

#include <stdio.h>

#include "core/buf.h"

#define POINTER_LIMIT ((size_t)1 << 19) /* a name of 64 KiB, each byte escaped, fits many times */

/* One level of the walk: where it is, and where values go. */
struct walk {
    struct bh_issues *issues; /* NULL: nothing can be wrong any more */
    const char *pointer;      /* of the object */
    void *target;
};

static void read_object(
    const struct walk *walk, const struct bh_fields *fields, const struct bh_json *value);

void
bh_issues_init(struct bh_issues *issues, struct bh_arena *arena)
{
    *issues = (struct bh_issues){.arena = arena};
}

struct bh_issue *
bh_issues_add(struct bh_issues *issues, enum bh_issue_kind kind, const struct bh_json *at,
    const char *pointer, const char *detail)
{
    struct bh_issue *issue;

    issues->count++;
    if (issues->count > BH_ISSUES_MAX)
        return NULL;
    issue = bh_arena_zalloc(issues->arena, sizeof(*issue));
    if (issue != NULL) {
        issue->kind = kind;
        issue->at = at;
        issue->pointer = bh_arena_strdup(issues->arena, pointer);
        issue->detail = bh_arena_strdup(issues->arena, detail);
    }
    if (issue == NULL || issue->pointer == NULL || issue->detail == NULL) {
        issues->failed = true;
        return NULL;
    }
    if (issues->last == NULL)
        issues->first = issue;
    else
        issues->last->next = issue;
    issues->last = issue;
    return issue;
}

enum bh_code
bh_issues_code(const struct bh_issues *issues, struct bh_error *err)
{
    if (issues->failed)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory while checking the input");
    if (issues->first == NULL)
        return BH_OK;
    return bh_fail_at(err, BH_E_INVALID, issues->first->pointer, "%s", issues->first->detail);
}

/* The RFC 6901 pointer of member ${name} below ${parent}. */
static const char *
point(const struct walk *walk, struct bh_str name)
{
    struct bh_buf buf;

    bh_buf_init_arena(&buf, walk->issues->arena, POINTER_LIMIT);
    bh_buf_puts(&buf, walk->pointer);
    bh_buf_putc(&buf, '/');
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '~')
            bh_buf_puts(&buf, "~0");
        else if (name.data[i] == '/')
            bh_buf_puts(&buf, "~1");
        else
            bh_buf_putc(&buf, name.data[i]);
    }
    if (!bh_buf_ok(&buf)) {
        walk->issues->failed = true;
        return walk->pointer;
    }
    return bh_buf_str(&buf).data;
}

static void
report(const struct walk *walk, const struct bh_json *value, struct bh_str name, const char *detail)
{
    if (walk->issues != NULL)
        (void)bh_issues_add(walk->issues, BH_ISSUE_VALUE, value, point(walk, name), detail);
}

static void
report_unknown(const struct walk *walk, const struct bh_fields *fields, const struct bh_json *value)
{
    struct bh_issue *issue;
    size_t best = 3; /* further apart is no typing error */
    char word[64];

    if (walk->issues == NULL)
        return;
    issue = bh_issues_add(
        walk->issues, BH_ISSUE_UNKNOWN, value, point(walk, value->name), "is not known here");
    if (issue == NULL || value->name.len >= sizeof(word))
        return;
    memcpy(word, value->name.data, value->name.len);
    word[value->name.len] = '\0';
    for (size_t i = 0; i < fields->count; i++) {
        size_t distance = bh_distance(word, fields->rows[i].name);
        if (fields->rows[i].kind != BH_FIELD_IGNORED && distance < best &&
            distance < value->name.len) {
            best = distance;
            issue->suggestion = fields->rows[i].name;
        }
    }
}

static void
put(const struct walk *walk, const struct bh_field *field, const void *value, size_t size)
{
    if (walk->target != NULL)
        memcpy((char *)walk->target + field->offset, value, size);
}

static int64_t
count_characters(struct bh_str text)
{
    int64_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        if (((unsigned char)text.data[i] & 0xc0) != 0x80)
            count++;
    return count;
}

static void
read_string(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    struct bh_error err;
    char detail[96];
    int64_t length;

    if (value->kind != BH_JSON_STRING) {
        report(walk, value, value->name, "must be a string");
        return;
    }
    length = count_characters(value->text);
    if (length < field->min || length > field->max) {
        (void)snprintf(detail, sizeof(detail), "must have %lld to %lld characters, has %lld",
            (long long)field->min, (long long)field->max, (long long)length);
        report(walk, value, value->name, detail);
        return;
    }
    if (field->rule != NULL && field->rule(value->text, &err) != BH_OK) {
        report(walk, value, value->name, err.detail);
        return;
    }
    put(walk, field, &value->text, sizeof(value->text));
}

static void
read_int(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    char detail[96];
    uint64_t number;
    int64_t result;

    (void)snprintf(detail, sizeof(detail), "must be a whole number from %lld to %lld",
        (long long)field->min, (long long)field->max);
    if (value->kind != BH_JSON_NUMBER || !bh_str_uint(value->text, (uint64_t)field->max, &number) ||
        (int64_t)number < field->min) {
        report(walk, value, value->name, detail);
        return;
    }
    result = (int64_t)number;
    put(walk, field, &result, sizeof(result));
}

static void
read_uint(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    uint64_t number;

    if (value->kind != BH_JSON_NUMBER || !bh_str_uint(value->text, UINT64_MAX, &number))
        report(walk, value, value->name, "must be a whole number below 2^64");
    else
        put(walk, field, &number, sizeof(number));
}

static void
read_bool(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    bool flag = value->kind == BH_JSON_TRUE;

    if (value->kind != BH_JSON_TRUE && value->kind != BH_JSON_FALSE)
        report(walk, value, value->name, "must be true or false");
    else
        put(walk, field, &flag, sizeof(flag));
}

static void
report_count(const struct walk *walk, const struct bh_field *field, const struct bh_json *value,
    int64_t count)
{
    char detail[96];

    (void)snprintf(detail, sizeof(detail), "must have at most %lld items, has %lld",
        (long long)field->max, (long long)count);
    report(walk, value, value->name, detail);
}

static void
check_word(const struct walk *walk, const struct bh_field *field, const struct bh_json *item,
    int64_t index)
{
    struct bh_error err;
    const char *pointer, *detail = NULL;

    if (walk->issues == NULL)
        return;
    if (item->kind != BH_JSON_STRING)
        detail = "must be a string";
    else if (field->rule != NULL && field->rule(item->text, &err) != BH_OK)
        detail = err.detail;
    if (detail == NULL)
        return;
    pointer = bh_arena_printf(
        walk->issues->arena, "%s/%s/%lld", walk->pointer, field->name, (long long)index);
    if (pointer == NULL)
        walk->issues->failed = true;
    else
        (void)bh_issues_add(walk->issues, BH_ISSUE_VALUE, item, pointer, detail);
}

static void
read_words(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    int64_t count = 0;

    if (value->kind != BH_JSON_ARRAY) {
        report(walk, value, value->name, "must be an array of strings");
        return;
    }
    for (const struct bh_json *item = value->first; item != NULL; item = item->next)
        check_word(walk, field, item, count++);
    if (count > field->max)
        report_count(walk, field, value, count);
    else
        put(walk, field, &value, sizeof(value));
}

static void
read_list(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    struct walk inner = {.issues = walk->issues};
    int64_t count = 0;

    if (value->kind != BH_JSON_ARRAY) {
        report(walk, value, value->name, "must be an array");
        return;
    }
    for (const struct bh_json *item = value->first; item != NULL; item = item->next, count++) {
        if (walk->issues == NULL)
            continue;
        inner.pointer = bh_arena_printf(
            walk->issues->arena, "%s/%s/%lld", walk->pointer, field->name, (long long)count);
        if (inner.pointer != NULL)
            read_object(&inner, field->fields, item);
        else
            walk->issues->failed = true;
    }
    if (count > field->max)
        report_count(walk, field, value, count);
    else
        put(walk, field, &value, sizeof(value));
}

static void
read_value(const struct walk *walk, const struct bh_field *field, const struct bh_json *value)
{
    struct walk inner = *walk;

    switch (field->kind) {
    case BH_FIELD_STRING:
        read_string(walk, field, value);
        break;
    case BH_FIELD_INT:
        read_int(walk, field, value);
        break;
    case BH_FIELD_UINT:
        read_uint(walk, field, value);
        break;
    case BH_FIELD_BOOL:
        read_bool(walk, field, value);
        break;
    case BH_FIELD_WORDS:
        read_words(walk, field, value);
        break;
    case BH_FIELD_OBJECT:
        if (walk->issues != NULL)
            inner.pointer = point(walk, value->name);
        read_object(&inner, field->fields, value);
        break;
    case BH_FIELD_LIST:
        read_list(walk, field, value);
        break;
    case BH_FIELD_TREE:
        if (value->kind != BH_JSON_OBJECT)
            report(walk, value, value->name, "must be an object");
        else
            put(walk, field, &value, sizeof(value));
        break;
    case BH_FIELD_IGNORED:
        break;
    }
}

static void
read_object(const struct walk *walk, const struct bh_fields *fields, const struct bh_json *value)
{
    const struct bh_json *member;
    size_t i;

    if (value->kind != BH_JSON_OBJECT) {
        if (walk->issues != NULL)
            (void)bh_issues_add(
                walk->issues, BH_ISSUE_VALUE, value, walk->pointer, "must be an object");
        return;
    }
    for (member = value->first; member != NULL; member = member->next) {
        for (i = 0; i < fields->count; i++)
            if (bh_str_is(member->name, fields->rows[i].name))
                break;
        if (i == fields->count)
            report_unknown(walk, fields, member);
        else
            read_value(walk, &fields->rows[i], member);
    }
    for (i = 0; walk->issues != NULL && i < fields->count; i++)
        if (fields->rows[i].required && bh_json_get(value, fields->rows[i].name) == NULL)
            (void)bh_issues_add(walk->issues, BH_ISSUE_MISSING, NULL,
                point(walk, bh_str_of(fields->rows[i].name)), "is required");
}

void
bh_fields_read(const struct bh_fields *fields, const struct bh_json *value, void *target,
    struct bh_issues *issues)
{
    bh_fields_read_at(fields, value, "", target, issues);
}

void
bh_fields_read_at(const struct bh_fields *fields, const struct bh_json *value, const char *at,
    void *target, struct bh_issues *issues)
{
    const struct walk walk = {.issues = issues, .pointer = at, .target = target};

    read_object(&walk, fields, value);
}

void
bh_fields_take(const struct bh_fields *fields, const struct bh_json *value, void *target)
{
    const struct walk walk = {.pointer = "", .target = target};

    read_object(&walk, fields, value);
}
