#include "control/watch/reader.h"

#include <stdlib.h>
#include <string.h>

#include "control/api/log.h"
#include "control/registry/audit.h"

#define BATCH_VALUES 4500 /* of one transaction: 500 tenants */
#define BATCH_ENTRIES 500
#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS 30000
#define LEASE_ROUNDS 3
#define LEASE_MIN_MS 8000 /* longer than one answer may take */

/* ---- the registry ---- */

/* A failure here is not the server's fault. */
static enum bh_code
open_registry(struct bh_reader *reader, struct bh_db **ret_db, struct bh_error *err)
{
    enum bh_code code = bh_watch_db(reader->watch, ret_db, err);
    reader->registry_failed = reader->registry_failed || code != BH_OK;
    return code;
}

static enum bh_code
close_registry(struct bh_reader *reader, struct bh_db *db, enum bh_code code)
{
    reader->registry_failed =
        reader->registry_failed || code == BH_E_UNAVAILABLE || code == BH_E_CONFLICT;
    bh_db_give(db);
    return code;
}

static enum bh_code
take_lease(struct bh_reader *reader, struct bh_watch_lease *ret_lease, struct bh_error *err)
{
    struct bh_db *db;
    int lease_ms = LEASE_ROUNDS * reader->watch->config.interval_ms;
    BH_TRY(open_registry(reader, &db, err));
    return close_registry(reader, db,
        bh_watch_take(db, reader->server, reader->watch->owner,
            lease_ms > LEASE_MIN_MS ? lease_ms : LEASE_MIN_MS, ret_lease, err));
}

/* ---- usage ---- */

static enum bh_code
book(struct bh_reader *reader, const struct bh_usage_post *post,
    const struct bh_usage_value *values, size_t count, struct bh_error *err)
{
    struct bh_db *db;
    enum bh_code code = BH_OK;
    if (count == 0)
        return BH_OK;
    BH_TRY(open_registry(reader, &db, err));
    for (size_t at = 0; at < count && code == BH_OK; at += BATCH_VALUES)
        code = bh_usage_add(
            db, post, values + at, count - at < BATCH_VALUES ? count - at : BATCH_VALUES, err);
    return close_registry(reader, db, code);
}

static enum bh_code
read_usage(struct bh_reader *reader, struct bh_arena *arena, struct bh_error *err)
{
    struct bh_link_usage usage;
    struct bh_usage_value *values;
    size_t count;
    const char *source = bh_arena_printf(arena, "postgres-%s", reader->server);
    if (!source)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_link_usage(&reader->link, arena, &usage, err));
    BH_TRY(bh_told_changes(&reader->told, &usage, arena, &values, &count, err));
    const struct bh_usage_post post = {source, usage.file_epoch, usage.sampled_us, reader->server};
    BH_TRY(book(reader, &post, values, count, err));
    bh_told_keep(&reader->told, &usage);
    return BH_OK;
}

/* ---- refusals ---- */

static enum bh_code
keep_entries(struct bh_reader *reader, const struct bh_audit_batch *batch,
    struct bh_audit_added *ret_added, struct bh_error *err)
{
    struct bh_db *db;
    BH_TRY(open_registry(reader, &db, err));
    BH_TRY(close_registry(reader, db, bh_audit_add(db, batch, ret_added, err)));
    if (ret_added->dropped > 0)
        bh_log("watch", "server %s: %lld refusals were overwritten before they were read",
            reader->server, (long long)ret_added->dropped);
    return BH_OK;
}

/* A ring of another epoch counts from 1 again, and that it is another is worth a row by itself. */
static enum bh_code
read_audit(struct bh_reader *reader, const struct bh_watch_lease *lease, struct bh_arena *arena,
    struct bh_error *err)
{
    struct bh_link_ring ring;
    struct bh_audit_added added = {0};
    BH_TRY(bh_link_ring(&reader->link, &ring, err));
    bool known = lease->ring_known && lease->ring_epoch == ring.epoch;
    bool same = memcmp(&ring, &reader->ring, sizeof(ring)) == 0;
    int64_t after = known ? lease->ring_seq : 0;
    struct bh_audit_batch batch = {
        reader->server, ring.epoch, ring.suppressed, same && after == ring.head, "[]"};
    if (!known || (batch.quiet && ring.suppressed > lease->ring_told))
        BH_TRY(keep_entries(reader, &batch, &added, err));
    while (after < ring.head && !atomic_load(&reader->watch->stopping)) {
        BH_TRY(bh_link_audit(&reader->link, arena, after, BATCH_ENTRIES, &batch.json, err));
        BH_TRY(keep_entries(reader, &batch, &added, err));
        if (added.seq <= after)
            break; /* nothing more to be had, whatever the head says */
        after = added.seq;
    }
    reader->ring = ring;
    return BH_OK;
}

/* ---- how the server is ---- */

static void
say_state(struct bh_reader *reader, const struct bh_watch_state *now)
{
    struct bh_db *db;
    struct bh_error err;
    bool same = reader->state && strcmp(reader->state, now->state) == 0;
    if (!same && now->message)
        bh_log("watch", "server %s is %s: %s", reader->server, now->state, now->message);
    else if (!same)
        bh_log("watch", "server %s is read, extension %s", reader->server, now->extension);
    reader->state = now->state;
    if (open_registry(reader, &db, &err) == BH_OK)
        (void)close_registry(reader, db, bh_watch_report(db, reader->server, now, &err));
}

static void
say_down(struct bh_reader *reader, const struct bh_error *cause)
{
    const struct bh_watch_state now = {"down", cause->detail, NULL};
    bh_link_close(&reader->link);
    reader->failures++;
    say_state(reader, &now);
}

/* ${problem}: what went wrong while the server answered, or "". */
static void
say_alive(struct bh_reader *reader, const char *problem)
{
    char message[BH_DETAIL_MAX];
    const struct bh_link *link = &reader->link;
    struct bh_watch_state now = {"limited", message, link->extension};
    reader->failures = 0;
    if (problem[0] != '\0')
        (void)snprintf(message, sizeof(message), "%s", problem);
    else if (link->extension[0] == '\0')
        (void)snprintf(
            message, sizeof(message), "database %s has no extension bulkhead", reader->database);
    else if (!link->usage || !link->audit)
        (void)snprintf(message, sizeof(message),
            "extension %s of database %s tells no %s; run ALTER EXTENSION bulkhead UPDATE there",
            link->extension, reader->database,
            link->usage   ? "refusals"
            : link->audit ? "usage"
                          : "usage and no refusals");
    else
        now = (struct bh_watch_state){"up", NULL, link->extension};
    say_state(reader, &now);
}

/* ---- one round ---- */

static enum bh_code
open_link(struct bh_reader *reader, struct bh_error *err)
{
    const char *conninfo = reader->conninfo ? reader->conninfo : reader->watch->config.server;
    bool whole = reader->link.usage && reader->link.audit;
    if (!reader->link.conn)
        BH_TRY(bh_link_open(&reader->link, conninfo, reader->database, err));
    else if (whole)
        return BH_OK;
    return bh_link_look(&reader->link, reader->server, err); /* an update may have come */
}

/* Read all; what fails while the server answers keeps nothing else from being read. */
static enum bh_code
read_all(struct bh_reader *reader, const struct bh_watch_lease *lease, char problem[BH_DETAIL_MAX],
    struct bh_error *err)
{
    struct bh_chunks memory;
    struct bh_error second = {.code = BH_OK};
    enum bh_code first = BH_OK;
    bh_chunks_init(&memory);
    if (reader->link.usage)
        first = read_usage(reader, &memory.arena, err);
    if (reader->link.audit && PQstatus(reader->link.conn) == CONNECTION_OK &&
        read_audit(reader, lease, &memory.arena, &second) != BH_OK && first == BH_OK) {
        first = second.code;
        *err = second;
    }
    bh_chunks_fini(&memory);
    problem[0] = '\0';
    if (first == BH_OK || PQstatus(reader->link.conn) != CONNECTION_OK)
        return first;
    (void)snprintf(problem, BH_DETAIL_MAX, "%s", err->detail);
    return BH_OK;
}

static void
run_round(struct bh_reader *reader)
{
    struct bh_watch_lease lease;
    struct bh_error err;
    char problem[BH_DETAIL_MAX];
    reader->registry_failed = false;
    if (take_lease(reader, &lease, &err) != BH_OK)
        return; /* the registry is out of reach: others say so */
    if (!lease.held) {
        bh_link_close(&reader->link);
        bh_told_forget(&reader->told);
        reader->state = NULL;
        return;
    }
    if (open_link(reader, &err) != BH_OK || read_all(reader, &lease, problem, &err) != BH_OK)
        say_down(reader, &err);
    else if (!reader->registry_failed)
        say_alive(reader, problem);
}

static int
wait_ms(const struct bh_reader *reader)
{
    int shift = reader->failures > 5 ? 5 : reader->failures - 1;
    int wait = RETRY_FIRST_MS << (shift < 0 ? 0 : shift);
    if (reader->failures == 0)
        return reader->watch->config.interval_ms;
    return wait > RETRY_MAX_MS ? RETRY_MAX_MS : wait;
}

static void *
read_on(void *arg)
{
    struct bh_reader *reader = arg;
    struct bh_error err;
    struct bh_db *db;
    while (!atomic_load(&reader->watch->stopping)) {
        run_round(reader);
        bh_watch_sleep(reader->watch, wait_ms(reader));
    }
    bh_link_close(&reader->link);
    bh_told_forget(&reader->told);
    if (bh_watch_db(reader->watch, &db, &err) == BH_OK) {
        (void)!bh_watch_release(db, reader->server, reader->watch->owner, &err);
        bh_db_give(db);
    }
    return NULL;
}

/* ---- start ---- */

void
bh_reader_free(struct bh_reader *reader)
{
    free(reader->server);
    free(reader->conninfo);
    free(reader->database);
    free(reader);
}

enum bh_code
bh_reader_start(struct bh_watch *watch, const struct bh_watched *server,
    struct bh_reader **ret_reader, struct bh_error *err)
{
    struct bh_reader *reader = calloc(1, sizeof(*reader));
    if (!reader)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    reader->watch = watch;
    reader->server = strdup(server->server);
    reader->database = strdup(server->database);
    reader->conninfo = server->conninfo ? strdup(server->conninfo) : NULL;
    if (!reader->server || !reader->database || (server->conninfo && !reader->conninfo) ||
        pthread_create(&reader->thread, NULL, read_on, reader) != 0) {
        bh_reader_free(reader);
        return bh_fail(err, BH_E_NO_MEMORY, "cannot start a thread for server %s", server->server);
    }
    *ret_reader = reader;
    return BH_OK;
}
