#include "cli/yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "cli/yamltext.h"

/* An open mapping or sequence. */
struct level {
    struct bh_yaml_node *node;
    struct bh_yaml_node *last; /* its newest child */
    size_t count;
};

struct reader {
    struct bh_str text;
    struct bh_arena *arena;
    struct bh_error *err;
    struct bh_yaml_mark *mark; /* where it went wrong */
    struct bh_yaml_cursor *cursor;
    struct bh_yaml_node *root;
    struct level levels[BH_JSON_DEPTH];
    size_t depth;
    bool keyed; /* a key waits for its value */
    struct bh_str key;
    struct bh_yaml_mark key_mark;
    size_t after; /* offset behind the newest key or value */
    unsigned documents;
};

static enum bh_code
no_memory(const struct reader *reader)
{
    *reader->mark = (struct bh_yaml_mark){1, 1};
    return bh_fail(reader->err, BH_E_NO_MEMORY, "out of memory while reading YAML");
}

static enum bh_code
refuse(const struct reader *reader, struct bh_yaml_mark mark, const char *what)
{
    *reader->mark = mark;
    return bh_fail(reader->err, BH_E_INVALID, "%s", what);
}

static struct bh_yaml_mark
mark_of(const struct reader *reader, const struct fy_mark *mark)
{
    return bh_yaml_walk(
        reader->text, reader->cursor, mark == NULL ? reader->after : mark->input_pos);
}

/* Where a scalar begins: its quote, its `|`, or where it would stand when it is empty. */
static struct bh_yaml_mark
scalar_mark(const struct reader *reader, struct fy_token *token)
{
    const struct fy_mark *mark = token == NULL ? NULL : fy_token_start_mark(token);
    enum fy_scalar_style style = token == NULL ? FYSS_PLAIN : fy_token_scalar_style(token);
    size_t at = reader->after;

    if (mark != NULL && (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) &&
        mark->input_pos > 0)
        return bh_yaml_walk(reader->text, reader->cursor, mark->input_pos - 1);
    if (mark != NULL && style != FYSS_LITERAL && style != FYSS_FOLDED)
        return mark_of(reader, mark);
    while (at < reader->text.len && strchr("\"': \t", reader->text.data[at]) != NULL)
        at++;
    if (mark == NULL && at > reader->after) /* empty: right behind the colon */
        at = reader->after + 1;
    return bh_yaml_walk(reader->text, reader->cursor, at);
}

static int
compare_names(const void *left, const void *right)
{
    const struct bh_yaml_node *const *a = left;
    const struct bh_yaml_node *const *b = right;
    size_t len_a = (*a)->json.name.len;
    size_t len_b = (*b)->json.name.len;
    int order = memcmp((*a)->json.name.data, (*b)->json.name.data, len_a < len_b ? len_a : len_b);

    if (order != 0)
        return order;
    if (len_a != len_b)
        return len_a < len_b ? -1 : 1;
    if ((*a)->key.line != (*b)->key.line)
        return (*a)->key.line < (*b)->key.line ? -1 : 1;
    return (*a)->key.column < (*b)->key.column ? -1 : 1;
}

/* A closed mapping of ${level}: no key twice.  Sorting keeps 64 KiB of keys cheap. */
static enum bh_code
check_keys(const struct reader *reader, const struct level *level)
{
    struct bh_yaml_node **nodes;
    size_t count = 0;

    if (level->node->json.kind != BH_JSON_OBJECT || level->count < 2)
        return BH_OK;
    nodes = bh_arena_alloc(reader->arena, level->count * sizeof(struct bh_yaml_node *));
    if (nodes == NULL)
        return no_memory(reader);
    for (struct bh_json *at = level->node->json.first; at != NULL; at = at->next)
        nodes[count++] = (struct bh_yaml_node *)at;
    qsort(nodes, count, sizeof(struct bh_yaml_node *), compare_names);
    for (size_t i = 1; i < count; i++) {
        if (!bh_str_eq(nodes[i]->json.name, nodes[i - 1]->json.name))
            continue;
        *reader->mark = nodes[i]->key;
        return bh_fail(reader->err, BH_E_INVALID, "key \"%.*s\" stands here twice (first at %u:%u)",
            (int)(nodes[i]->json.name.len < 64 ? nodes[i]->json.name.len : 64),
            nodes[i]->json.name.data, nodes[i - 1]->key.line, nodes[i - 1]->key.column);
    }
    return BH_OK;
}

/* Hangs a new node of ${kind} into the tree; it takes the key that waits. */
static enum bh_code
add_node(struct reader *reader, enum bh_json_kind kind, struct bh_yaml_mark mark,
    struct bh_yaml_node **ret_node)
{
    struct bh_yaml_node *node = bh_arena_zalloc(reader->arena, sizeof(*node));
    struct level *level = reader->depth > 0 ? &reader->levels[reader->depth - 1] : NULL;

    if (node == NULL)
        return no_memory(reader);
    node->json.kind = kind;
    node->value = mark;
    node->key = mark;
    if (reader->keyed) {
        node->json.name = reader->key;
        node->key = reader->key_mark;
        reader->keyed = false;
    }
    if (level == NULL)
        reader->root = node;
    else if (level->last == NULL)
        level->node->json.first = &node->json;
    else
        level->last->json.next = &node->json;
    if (level != NULL) {
        level->last = node;
        level->count++;
    }
    *ret_node = node;
    return BH_OK;
}

static bool
awaits_key(const struct reader *reader)
{
    return reader->depth > 0 && !reader->keyed &&
           reader->levels[reader->depth - 1].node->json.kind == BH_JSON_OBJECT;
}

static enum bh_code
open_level(struct reader *reader, enum bh_json_kind kind, struct bh_yaml_mark mark)
{
    struct bh_yaml_node *node;

    if (awaits_key(reader))
        return refuse(reader, mark, "a key must be a plain word");
    if (reader->depth == BH_JSON_DEPTH)
        return refuse(reader, mark, "more than 16 levels");
    BH_TRY(add_node(reader, kind, mark, &node));
    reader->levels[reader->depth++] = (struct level){.node = node};
    return BH_OK;
}

static enum bh_code
close_level(struct reader *reader)
{
    if (reader->depth == 0) /* libfyaml never ends what did not begin */
        return refuse(reader, bh_yaml_mark_at(reader->text, reader->after), "not valid YAML");
    reader->depth--;
    return check_keys(reader, &reader->levels[reader->depth]);
}

static enum bh_code
take_scalar(struct reader *reader, struct fy_token *token)
{
    struct bh_yaml_mark mark = scalar_mark(reader, token);
    bool plain = token == NULL || fy_token_scalar_style(token) == FYSS_PLAIN;
    struct bh_yaml_node *node;
    struct bh_str text = {"", 0};
    const char *data = token == NULL ? NULL : fy_token_get_text(token, &text.len);

    if (token != NULL && data == NULL && text.len > 0)
        return no_memory(reader);
    text.data = bh_arena_strndup(reader->arena, data == NULL ? "" : data, text.len);
    if (text.data == NULL)
        return no_memory(reader);
    if (awaits_key(reader)) {
        reader->keyed = true;
        reader->key = text;
        reader->key_mark = mark;
        return BH_OK;
    }
    BH_TRY(add_node(reader, plain ? bh_yaml_resolve(text) : BH_JSON_STRING, mark, &node));
    node->json.text = text;
    return BH_OK;
}

/* What a tenant file may not have, at whatever event it shows. */
static enum bh_code
check_event(struct reader *reader, struct fy_event *event)
{
    bool node = event->type == FYET_SCALAR || event->type == FYET_MAPPING_START ||
                event->type == FYET_SEQUENCE_START;
    struct fy_token *anchor = node ? fy_event_get_anchor_token(event) : NULL;
    struct fy_token *tag = node ? fy_event_get_tag_token(event) : NULL;

    if (event->type == FYET_DOCUMENT_START)
        reader->documents++;
    if (reader->documents > 1 && (fy_event_start_mark(event) != NULL || node))
        return refuse(reader, mark_of(reader, fy_event_start_mark(event)),
            "a second document begins here; a tenant file holds one");
    if (event->type == FYET_ALIAS)
        return refuse(reader, bh_yaml_sign_before(reader->text, '*', fy_event_start_mark(event)),
            "aliases are not allowed");
    if (anchor != NULL)
        return refuse(reader, bh_yaml_sign_before(reader->text, '&', fy_token_start_mark(anchor)),
            "anchors are not allowed");
    if (tag != NULL)
        return refuse(reader, bh_yaml_sign_before(reader->text, '!', fy_token_start_mark(tag)),
            "tags are not allowed");
    return BH_OK;
}

static enum bh_code
take_event(struct reader *reader, struct fy_event *event)
{
    const struct fy_mark *end = fy_event_end_mark(event);
    enum bh_code code;

    BH_TRY(check_event(reader, event));
    if (event->type == FYET_SCALAR)
        code = take_scalar(reader, fy_event_get_token(event));
    else if (event->type == FYET_MAPPING_START)
        code = open_level(reader, BH_JSON_OBJECT, mark_of(reader, fy_event_start_mark(event)));
    else if (event->type == FYET_SEQUENCE_START)
        code = open_level(reader, BH_JSON_ARRAY, mark_of(reader, fy_event_start_mark(event)));
    else if (event->type == FYET_MAPPING_END || event->type == FYET_SEQUENCE_END)
        code = close_level(reader);
    else
        code = BH_OK;
    if (end != NULL)
        reader->after = end->input_pos;
    return code;
}

#define SWALLOWED "invalid multiline plain key"

/* What libfyaml says of broken YAML, in words for people where its own are for its author. */
static const char *
explain(const char *message)
{
    static const struct {
        const char *theirs;
        const char *ours;
    } words[] = {
        {SWALLOWED, "a key inside the value of the line before: check the indentation"},
        {"did not find expected key", "expected a key (\"name: value\") here"},
        {"invalid nested block mapping on the same line",
            "a second \": \" in one line: quote the value"},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i].theirs, message) == 0)
            return words[i].ours;
    return message;
}

/*
 * A plain value that swallowed a key of a later line: libfyaml names the
 * value, but people look at the key.
 */
static struct bh_yaml_mark
swallowed_key(const struct reader *reader, struct bh_yaml_mark value)
{
    unsigned last = value.line + 64;

    for (unsigned line = value.line + 1; line < last; line++) {
        struct bh_str text = bh_yaml_line(reader->text, line);
        size_t start = 0;
        while (start < text.len && (text.data[start] == ' ' || text.data[start] == '\t'))
            start++;
        if (start < text.len && memchr(text.data + start, ':', text.len - start) != NULL)
            return (struct bh_yaml_mark){line, (unsigned)start + 1};
    }
    return value;
}

static enum bh_code
broken(const struct reader *reader, struct fy_diag *diag)
{
    void *at = NULL;
    const struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);

    if (first == NULL || first->msg == NULL || first->line < 1)
        return refuse(reader, bh_yaml_mark_at(reader->text, reader->after), "not valid YAML");
    *reader->mark = (struct bh_yaml_mark){
        (unsigned)first->line, first->column < 1 ? 1 : (unsigned)first->column};
    if (strstr(first->msg, "without closing quote") != NULL && reader->mark->column > 1)
        reader->mark->column--; /* the quote itself */
    if (strcmp(first->msg, SWALLOWED) == 0)
        *reader->mark = swallowed_key(reader, *reader->mark);
    return bh_fail(reader->err, BH_E_INVALID, "not valid YAML: %s", explain(first->msg));
}

static enum bh_code
read_events(struct reader *reader, struct fy_parser *parser, struct fy_diag *diag)
{
    struct fy_event *event;
    enum bh_code code = BH_OK;

    if (fy_parser_set_string(parser, reader->text.data, reader->text.len) != 0)
        return no_memory(reader);
    while (code == BH_OK && (event = fy_parser_parse(parser)) != NULL) {
        code = take_event(reader, event);
        fy_parser_event_free(parser, event);
    }
    if (code == BH_OK && (fy_parser_get_stream_error(parser) || reader->depth > 0))
        code = broken(reader, diag);
    return code;
}

static enum bh_code
parse(struct reader *reader)
{
    struct fy_diag_cfg silent;
    struct fy_parse_cfg config = {
        .flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE};
    struct fy_parser *parser;
    enum bh_code code;

    fy_diag_cfg_default(&silent);
    silent.fp = NULL;
    config.diag = fy_diag_create(&silent);
    if (config.diag == NULL)
        return no_memory(reader);
    fy_diag_set_collect_errors(config.diag, true);
    parser = fy_parser_create(&config);
    code = parser == NULL ? no_memory(reader) : read_events(reader, parser, config.diag);
    fy_parser_destroy(parser);
    fy_diag_destroy(config.diag);
    return code;
}

enum bh_code
bh_yaml_parse(struct bh_str text, struct bh_arena *arena, struct bh_yaml_node **ret_root,
    struct bh_yaml_mark *ret_mark, struct bh_error *err)
{
    struct bh_yaml_cursor cursor = {0};
    struct reader reader = {.arena = arena, .err = err, .mark = ret_mark, .cursor = &cursor};

    reader.text = bh_yaml_skip_mark(text);
    BH_TRY(bh_yaml_check_text(reader.text, ret_mark, err));
    if (reader.text.len > 0) /* libfyaml takes no empty input */
        BH_TRY(parse(&reader));
    if (reader.root == NULL || reader.root->json.kind == BH_JSON_NULL) {
        reader.root = NULL;
        reader.depth = 0;
        BH_TRY(add_node(&reader, BH_JSON_OBJECT, (struct bh_yaml_mark){1, 1}, &reader.root));
    }
    *ret_root = reader.root;
    return BH_OK;
}
