/* The self-check of one database: what is new and what is gone is logged once. */
#include <string.h>

#include "control/api/log.h"
#include "control/watch/reader.h"

#define RETRY_S 60

#define FINDING(problem, fix)                                                                      \
    "{\"object\":\"extension bulkhead\",\"problem\":\"" problem "\",\"fix\":\"" fix "\"}"

/* What the extension cannot tell by itself: that it is not there, or too old to tell. */
static const char absent[] =
    FINDING("is not installed: nobody is guarded here", "CREATE EXTENSION bulkhead");
static const char old[] = FINDING(
    "is too old: it counts no usage or records no refusals", "ALTER EXTENSION bulkhead UPDATE");

static const char *
add_own(const struct bh_link *link, struct bh_arena *arena, const char *json)
{
    const char *own = link->extension[0] == '\0' ? absent : link->usage && link->audit ? NULL : old;
    size_t len = strlen(json);
    if (!own || len < 2)
        return json;
    return bh_arena_printf(
        arena, "%.*s%s%s]", (int)len - 1, json, json[len - 2] == '[' ? "" : ",", own);
}

static enum bh_code
ask(struct bh_watch *watch, const struct bh_watched *place, struct bh_arena *arena,
    const char **ret_json, struct bh_error *err)
{
    struct bh_link link = {0};
    const char *conninfo = place->conninfo ? place->conninfo : watch->config.server;
    const char *json = "[]";
    enum bh_code code = BH_OK;
    BH_TRY(bh_link_open(&link, conninfo, place->database, err));
    if (link.check)
        code = bh_link_check(&link, arena, &json, err);
    json = add_own(&link, arena, json);
    bh_link_close(&link);
    if (code == BH_OK && !json)
        code = bh_fail(err, BH_E_NO_MEMORY, "no memory for findings");
    if (code == BH_OK)
        *ret_json = json;
    return code;
}

static void
say(const struct bh_finding *finding)
{
    bh_log("watch", "%s: server %s, database %s: %s %s%s%s", finding->gone ? "mended" : "drift",
        finding->server, finding->database, finding->object, finding->problem,
        finding->fix && !finding->gone ? "; fix: " : "",
        finding->fix && !finding->gone ? finding->fix : "");
}

static enum bh_code
keep(struct bh_watch *watch, const struct bh_watched *place, struct bh_arena *arena,
    const char *json, struct bh_error *err)
{
    struct bh_finding *changes;
    struct bh_db *db;
    size_t count;
    BH_TRY(bh_watch_db(watch, &db, err));
    enum bh_code code = bh_selfcheck_store(db, arena, place, json, &changes, &count, err);
    bh_db_give(db);
    BH_TRY(code);
    for (size_t i = 0; i < count; i++)
        say(&changes[i]);
    return BH_OK;
}

static enum bh_code
defer(struct bh_watch *watch, const struct bh_watched *place, struct bh_error *err)
{
    struct bh_db *db;
    BH_TRY(bh_watch_db(watch, &db, err));
    enum bh_code code = bh_selfcheck_defer(db, place, RETRY_S, err);
    bh_db_give(db);
    return code;
}

enum bh_code
bh_watch_check(struct bh_watch *watch, const struct bh_watched *place, struct bh_error *err)
{
    struct bh_chunks memory;
    const char *json;
    bh_chunks_init(&memory);
    enum bh_code code = ask(watch, place, &memory.arena, &json, err);
    if (code == BH_OK) {
        code = keep(watch, place, &memory.arena, json, err);
    } else {
        /* That the server is away is the reader's to say; all else would go unseen. */
        if (code != BH_E_UNAVAILABLE)
            bh_log("watch", "cannot check database %s of server %s: %s", place->database,
                place->server, err->detail);
        code = defer(watch, place, err);
    }
    bh_chunks_fini(&memory);
    return code;
}
