/*
 * Writes a snapshot by hand, for tests and benches that run an edge without an agent.
 *
 *   bh-snapshot DIR             apply feed lines (doc/contract/feed.md) from standard input
 *   bh-snapshot DIR --keyring   say that the keyring file was replaced
 *   bh-snapshot DIR --clear     drop every tenant first, then apply the lines
 *   bh-snapshot DIR --print     print every tenant as a feed line
 *
 * Lines are committed together at the end, or at each empty line; each commit
 * is answered by a line "ok <seq>".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/json.h"
#include "snapshot/snapshot.h"

static const char *const name_members[BH_NAME_KIND_COUNT] = {
    [BH_NAME_SERVER] = "server",
    [BH_NAME_DATABASE] = "database",
    [BH_NAME_ENDPOINTS] = "endpoints",
    [BH_NAME_CELL] = "cell",
    [BH_NAME_TIER] = "tier",
    [BH_NAME_POLICY] = "policy",
};

static void
die(const struct bh_error *err, unsigned long line)
{
    fprintf(stderr, "bh-snapshot: line %lu: %s\n", line, err->detail);
    exit(bh_code_exit(err->code));
}

static bool
read_int(const struct bh_json *object, const char *name, int64_t max, int64_t *ret_value)
{
    return bh_json_int(bh_json_get(object, name), ret_value) && *ret_value >= 0 &&
           *ret_value <= max;
}

static struct bh_str
read_text(const struct bh_json *object, const char *name)
{
    const struct bh_json *value = bh_json_get(object, name);
    return value != NULL && value->kind == BH_JSON_STRING ? value->text : BH_STR("");
}

/* NULL removes it. */
static struct bh_str
read_body(const struct bh_json *object)
{
    const struct bh_json *body = bh_json_get(object, "body");
    return body != NULL && body->kind == BH_JSON_NULL ? (struct bh_str){NULL, 0}
                                                      : read_text(object, "body");
}

static struct bh_str
join(const struct bh_json *array, struct bh_arena *arena)
{
    struct bh_buf out;
    bh_buf_init_arena(&out, arena, 65536);
    for (const struct bh_json *e = array == NULL ? NULL : array->first; e != NULL; e = e->next) {
        if (e != array->first) {
            bh_buf_putc(&out, ' ');
        }
        bh_buf_str_add(&out, e->text);
    }
    return bh_buf_str(&out);
}

static enum bh_code
read_record(const struct bh_json *record, struct bh_arena *arena, struct bh_tenant_facts *facts,
    struct bh_error *err)
{
    int64_t epoch;
    int64_t rate;
    int64_t burst;
    int64_t share;
    facts->id = read_text(record, "id");
    if (!bh_uid_parse(read_text(record, "uid"), &facts->uid) ||
        !bh_tenant_state_find(read_text(record, "state"), &facts->state) ||
        !read_int(record, "epoch", UINT32_MAX, &epoch) ||
        !read_int(record, "rate", UINT32_MAX, &rate) ||
        !read_int(record, "burst", UINT32_MAX, &burst) ||
        !read_int(record, "share", UINT16_MAX, &share)) {
        return bh_fail(err, BH_E_INVALID, "a member of record is missing or illegal");
    }
    facts->epoch = (uint32_t)epoch;
    facts->rate = (uint32_t)rate;
    facts->burst = (uint32_t)burst;
    facts->share = (uint32_t)share;
    for (int i = 0; i < BH_NAME_KIND_COUNT; i++) {
        facts->names[i] = i == BH_NAME_ENDPOINTS ? join(bh_json_get(record, "endpoints"), arena)
                                                 : read_text(record, name_members[i]);
    }
    facts->domains = join(bh_json_get(record, "domains"), arena);
    return BH_OK;
}

static enum bh_code
apply_row(struct bh_snapshot_writer *writer, const struct bh_json *root, struct bh_arena *arena,
    int64_t version, struct bh_error *err)
{
    int64_t no;
    const struct bh_json *record = bh_json_get(root, "record");
    if (bh_json_get(root, "document") != NULL) {
        return bh_writer_document(
            writer, read_text(root, "document"), (uint64_t)version, read_body(root), err);
    }
    if (!read_int(root, "no", INT32_MAX, &no)) {
        return bh_fail(err, BH_E_INVALID, "no is missing or illegal");
    }
    struct bh_tenant_facts facts = {.no = (int32_t)no, .version = (uint32_t)version};
    if (record == NULL || record->kind != BH_JSON_OBJECT) {
        return bh_writer_remove(writer, facts.no, facts.version, err);
    }
    BH_TRY(read_record(record, arena, &facts, err));
    return bh_writer_put(writer, &facts, err);
}

static enum bh_code
apply(struct bh_snapshot_writer *writer, struct bh_str line, struct bh_snapshot_meta *meta,
    struct bh_error *err)
{
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_json *root = NULL;
    int64_t seq = 0;
    int64_t version = 0;
    enum bh_code code = bh_json_parse(line, BH_JSON_DEPTH, &chunks.arena, &root, err);
    if (code == BH_OK && (!read_int(root, "seq", INT64_MAX, &seq) ||
                             !read_int(root, "version", UINT32_MAX, &version) ||
                             !bh_uid_parse(read_text(root, "incarnation"), &meta->incarnation))) {
        code = bh_fail(err, BH_E_INVALID, "incarnation, seq or version is missing or illegal");
    }
    code = code == BH_OK ? apply_row(writer, root, &chunks.arena, version, err) : code;
    meta->seq = code == BH_OK ? (uint64_t)seq : meta->seq;
    bh_chunks_fini(&chunks);
    return code;
}

static bool
print_one(void *arg, struct bh_str id, const struct bh_record *record)
{
    struct bh_snapshot *snapshot = arg;
    char uid[BH_UID_TEXT];
    bh_uid_format(&record->uid, uid);
    printf("{\"no\":%d,\"version\":%llu,\"record\":{\"id\":\"%.*s\",\"uid\":\"%s\",\"epoch\":%u,"
           "\"state\":\"%s\",\"rate\":%u,\"burst\":%u,\"share\":%u",
        record->no, (unsigned long long)record->version, (int)id.len, id.data, uid, record->epoch,
        bh_tenant_state_name((enum bh_tenant_state)record->state), record->rate, record->burst,
        record->share);
    for (int i = 0; i < BH_NAME_KIND_COUNT; i++) {
        struct bh_str text = bh_snapshot_name(snapshot, (enum bh_name_kind)i, record->names[i]);
        printf(",\"%s\":\"%.*s\"", name_members[i], (int)text.len, text.data);
    }
    printf("}}\n");
    return true;
}

/* As a reader, beside the process that writes. */
static void
print_all(const char *path)
{
    struct bh_snapshot *snapshot;
    struct bh_error err;
    if (bh_snapshot_open(path, &snapshot, &err) != BH_OK ||
        bh_snapshot_begin(snapshot, &err) != BH_OK) {
        die(&err, 0);
    }
    bh_snapshot_each(snapshot, print_one, snapshot);
    bh_snapshot_end(snapshot);
    bh_snapshot_close(snapshot);
}

static void
commit(struct bh_snapshot_writer *writer, const struct bh_snapshot_meta *meta, unsigned long line)
{
    struct bh_error err;
    if (bh_writer_meta(writer, meta, &err) != BH_OK || bh_writer_commit(writer, &err) != BH_OK) {
        die(&err, line);
    }
    printf("ok %llu\n", (unsigned long long)meta->seq);
    fflush(stdout);
}

static void
apply_all(struct bh_snapshot_writer *writer, struct bh_snapshot_meta *meta, bool clear)
{
    struct bh_error err;
    char *line = NULL;
    size_t size = 0;
    unsigned long number = 0;
    if (bh_writer_begin(writer, &err) != BH_OK ||
        (clear && bh_writer_clear(writer, &err) != BH_OK)) {
        die(&err, 0);
    }
    for (ssize_t len; (len = getline(&line, &size, stdin)) > 0;) {
        number++;
        if (len == 1) {
            commit(writer, meta, number);
            if (bh_writer_begin(writer, &err) != BH_OK) {
                die(&err, number);
            }
        } else if (apply(writer, (struct bh_str){line, (size_t)len}, meta, &err) != BH_OK) {
            die(&err, number);
        }
    }
    commit(writer, meta, number);
    free(line);
}

int
main(int argc, char **argv)
{
    const char *option = argc == 3 ? argv[2] : "";
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: bh-snapshot DIR [--keyring | --clear | --print] < lines\n");
        return 64;
    }
    struct bh_snapshot_writer *writer;
    struct bh_snapshot_meta meta;
    struct bh_error err;
    if (strcmp(option, "--print") == 0) {
        print_all(argv[1]);
        return 0;
    }
    if (bh_writer_open(argv[1], &writer, &err) != BH_OK ||
        bh_writer_meta_get(writer, &meta, &err) != BH_OK) {
        die(&err, 0);
    }
    if (strcmp(option, "--keyring") == 0) {
        meta.keyring++;
        if (bh_writer_begin(writer, &err) != BH_OK) {
            die(&err, 0);
        }
        commit(writer, &meta, 0);
    } else {
        apply_all(writer, &meta, strcmp(option, "--clear") == 0);
    }
    bh_writer_close(writer);
    return 0;
}
