/* /v1/feed and its snapshot: how tenants' records reach the edges (doc/contract/feed.md). */
#include <errno.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/api/api.h"
#include "control/api/feedline.h"
#include "control/api/hub.h"
#include "control/api/page.h"
#include "control/api/write.h"

#define NDJSON "application/x-ndjson"
#define SNAPSHOT_PATIENCE_MS 60000 /* sorts all that is in the feed */

/* Where a reader stands: `<incarnation>.<seq>`. */
struct position {
    struct bh_str incarnation;
    int64_t seq;
};

static bool
read_position(const char *text, struct position *position)
{
    struct bh_str seq;
    struct bh_uid uid;
    uint64_t number;

    if (!bh_str_cut(bh_str_of(text), '.', &position->incarnation, &seq) ||
        !bh_uid_parse(position->incarnation, &uid) || !bh_str_uint(seq, INT64_MAX, &number))
        return false;
    position->seq = (int64_t)number;
    return true;
}

static enum bh_code
gone(struct bh_error *err, const char *why)
{
    (void)bh_fail(err, BH_E_GONE, "%s", why);
    return bh_hint(err, "GET /v1/feed/snapshot, then follow the feed from its seq");
}

/* What the agent gets: a reader that does not say so knows no documents. */
static struct bh_feed_scope
scope_of(const struct bh_request *request)
{
    return (struct bh_feed_scope){
        .cell = request->principal.cell,
        .documents = request->feed != NULL && strcmp(request->feed, "documents") == 0,
    };
}

BH_HANDLER(bh_feed_get)
{
    const struct bh_feed_scope scope = scope_of(request);
    const char *after = bh_query_get(&request->query, "after");
    char incarnation[BH_UID_TEXT];
    struct position position;
    struct bh_feed_row *rows;
    int64_t head;
    size_t count;
    enum bh_code code;

    if (after != NULL && !read_position(after, &position))
        bh_param_bad(request, "after", "must be <incarnation>.<seq>");
    BH_TRY(bh_issues_code(&request->issues, err));
    if (after == NULL)
        return gone(err, "no position was given");
    BH_TRY(bh_feed_head(request->db, incarnation, &head, err));
    if (!bh_str_is(position.incarnation, incarnation))
        return gone(err, "the feed has begun anew");
    code = bh_feed_read(request->db, request->arena, &scope, position.seq, 1, &rows, &count, err);
    if (code == BH_E_GONE)
        return gone(err, "the position is not in the feed");
    BH_TRY(code);
    reply->content_type = NDJSON;
    if (request->head)
        return BH_OK;
    return bh_stream_new(request->hub, &scope, incarnation, position.seq, &reply->stream, err);
}

/* The snapshot is spooled to an unlinked file, so that a slow reader holds no transaction open. */
struct spool {
    FILE *file;
    struct bh_buf line;
    char incarnation[BH_UID_TEXT];
    int64_t seq;
    bool begun;
    bool failed;
};

static void
begin_spool(struct spool *spool)
{
    if (!spool->begun &&
        fprintf(spool->file, "{\"format\":1,\"incarnation\":\"%s\",\"seq\":%lld}\n",
            spool->incarnation, (long long)spool->seq) < 0)
        spool->failed = true;
    spool->begun = true;
}

static bool
spool_row(void *arg, const struct bh_feed_row *row)
{
    struct spool *spool = arg;

    begin_spool(spool);
    bh_buf_reset(&spool->line);
    bh_feed_line(&spool->line, NULL, row);
    if (!bh_buf_ok(&spool->line) || fwrite(spool->line.data, spool->line.len, 1, spool->file) != 1)
        spool->failed = true;
    return !spool->failed;
}

static enum bh_code
open_spool(const struct bh_request *request, struct spool *spool, struct bh_error *err)
{
    char *path =
        bh_arena_printf(request->arena, "%s/run/snapshot.XXXXXX", request->config->state_dir);
    int fd;

    if (path == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return bh_fail(err, BH_E_INTERNAL, "cannot spool the snapshot in %s/run: %s",
            request->config->state_dir, strerror(errno));
    (void)unlink(path);
    spool->file = fdopen(fd, "w");
    if (spool->file != NULL)
        return BH_OK;
    (void)close(fd);
    return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
}

BH_HANDLER(bh_feed_snapshot_get)
{
    const struct bh_feed_scope scope = scope_of(request);
    struct spool spool = {.seq = 0};
    enum bh_code code;

    bh_buf_init_arena(&spool.line, request->arena, BH_FEED_LINE_MAX);
    BH_TRY(open_spool(request, &spool, err));
    bh_db_patience(request->db, SNAPSHOT_PATIENCE_MS);
    code = bh_feed_snapshot(
        request->db, &scope, spool.incarnation, &spool.seq, spool_row, &spool, err);
    if (code == BH_OK) {
        begin_spool(&spool);
        if (fflush(spool.file) != 0 || spool.failed)
            code = bh_fail(err, BH_E_INTERNAL, "cannot spool the snapshot in %s/run: %s",
                request->config->state_dir, strerror(errno));
    }
    if (code == BH_OK) {
        reply->content_type = NDJSON;
        reply->fd = dup(fileno(spool.file));
        if (reply->fd < 0)
            code = bh_fail(err, BH_E_INTERNAL, "dup: %s", strerror(errno));
    }
    (void)fclose(spool.file);
    return code;
}
