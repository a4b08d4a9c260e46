/*
 * The feed: one stream from the control plane into the snapshot.
 *
 * What one read brings becomes one transaction.  A line that is wrong ends the
 * connection; the lines before it are committed, itself and what follows are
 * not.  Heartbeats never move our position: only rows that we hold do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/http.h"
#include "agent/lines.h"
#include "agent/log.h"
#include "agent/node.h"
#include "agent/record.h"

#define SILENCE_MS 15000
#define BACKOFF_FIRST_US 100000
#define BACKOFF_LAST_US 3000000

struct reader {
    struct bh_node *node;
    bool replacing; /* a whole snapshot comes, in one transaction */
    bool started;   /* its first line was read */
    bool open;      /* a transaction is */
    bool caught_up; /* a heartbeat said that we hold all */
    struct bh_uid incarnation;
    uint64_t seq;
    uint64_t rows;
    struct bh_chunks chunks; /* what one line needs */
    struct bh_lines lines;
};

static enum bh_code
need_transaction(struct reader *reader, struct bh_error *err)
{
    if (!reader->open) {
        BH_TRY(bh_writer_begin(reader->node->writer, err));
        reader->open = true;
    }
    return BH_OK;
}

static void
abandon(struct reader *reader)
{
    bh_writer_abort(reader->node->writer);
    bh_held_lose(&reader->node->held);
}

static enum bh_code
apply(struct bh_snapshot_writer *writer, const struct bh_feed_line *line, struct bh_error *err)
{
    if (line->kind == BH_LINE_DOCUMENT)
        return bh_writer_document(writer, line->name, line->version, line->body, err);
    if (line->kind == BH_LINE_RECORD)
        return bh_writer_put(writer, &line->facts, err);
    return bh_writer_remove(writer, line->no, (uint32_t)line->version, err);
}

static enum bh_code
take_row(struct reader *reader, const struct bh_feed_line *line, struct bh_error *err)
{
    if (reader->replacing && !reader->started)
        return bh_fail(err, BH_E_INVALID, "feed: a snapshot must begin with its format");
    if (!reader->replacing &&
        (!line->has_incarnation ||
            memcmp(&line->incarnation, &reader->incarnation, sizeof(line->incarnation)) != 0))
        return bh_fail(err, BH_E_INVALID, "feed: row %llu is of another incarnation",
            (unsigned long long)line->seq);
    if (!reader->replacing && line->seq <= reader->seq)
        return bh_fail(err, BH_E_INVALID, "feed: row %llu came after row %llu",
            (unsigned long long)line->seq, (unsigned long long)reader->seq);
    BH_TRY(need_transaction(reader, err));
    BH_TRY(apply(reader->node->writer, line, err));
    if (line->kind != BH_LINE_DOCUMENT)
        bh_held_note(&reader->node->held, line->no,
            line->kind == BH_LINE_RECORD && line->facts.state == BH_TENANT_MOVING);
    reader->rows++;
    if (!reader->replacing)
        reader->seq = line->seq;
    return BH_OK;
}

static enum bh_code
take_head(struct reader *reader, const struct bh_feed_line *line, struct bh_error *err)
{
    if (reader->replacing)
        return BH_OK;
    if (line->seq < reader->seq)
        return bh_fail(err, BH_E_INVALID, "feed: its head %llu is behind what we hold, %llu",
            (unsigned long long)line->seq, (unsigned long long)reader->seq);
    reader->caught_up = true;
    return BH_OK;
}

static enum bh_code
take_start(struct reader *reader, const struct bh_feed_line *line, struct bh_error *err)
{
    if (!reader->replacing || reader->started)
        return bh_fail(err, BH_E_INVALID, "feed: a snapshot begins where none may");
    BH_TRY(need_transaction(reader, err));
    BH_TRY(bh_writer_clear(reader->node->writer, err));
    bh_held_clear(&reader->node->held);
    reader->incarnation = line->incarnation;
    reader->seq = line->seq;
    reader->started = true;
    return BH_OK;
}

static enum bh_code
take_line(void *arg, struct bh_str text, struct bh_error *err)
{
    struct reader *reader = arg;
    struct bh_feed_line line;
    enum bh_code code = bh_feed_line_parse(text, &reader->chunks.arena, &line, err);
    if (code == BH_OK) {
        if (line.kind == BH_LINE_HEAD)
            code = take_head(reader, &line, err);
        else if (line.kind == BH_LINE_START)
            code = take_start(reader, &line, err);
        else
            code = take_row(reader, &line, err);
    }
    bh_chunks_fini(&reader->chunks);
    return code;
}

/* After a failure inside LMDB only abort is allowed; commit says so itself. */
static enum bh_code
close_transaction(struct reader *reader, struct bh_error *err)
{
    if (!reader->open)
        return BH_OK;
    reader->open = false;
    enum bh_code code = bh_node_commit(reader->node, &reader->incarnation, reader->seq, err);
    if (code != BH_OK)
        abandon(reader);
    return code;
}

static void
note_contact(struct reader *reader)
{
    struct bh_node *node = reader->node;
    pthread_mutex_lock(&node->lock);
    if (reader->caught_up) {
        node->heard_us = bh_mono_us();
        if (!node->in_step)
            bh_log("feed: in step at %llu", (unsigned long long)reader->seq);
        node->in_step = true;
        pthread_cond_broadcast(&node->changed);
    }
    pthread_mutex_unlock(&node->lock);
}

static enum bh_code
take_bytes(void *arg, const char *data, size_t len, struct bh_error *err)
{
    struct reader *reader = arg;
    if (reader->replacing)
        return bh_lines_feed(&reader->lines, data, len, take_line, reader, err);
    pthread_mutex_lock(&reader->node->writing);
    enum bh_code code = bh_lines_feed(&reader->lines, data, len, take_line, reader, err);
    struct bh_error late;
    enum bh_code committed = close_transaction(reader, code == BH_OK ? err : &late);
    pthread_mutex_unlock(&reader->node->writing);
    if (committed == BH_OK)
        note_contact(reader);
    return code == BH_OK ? committed : code;
}

/* The answer is whole and right, or nothing of it is taken. */
static enum bh_code
replace_all(struct reader *reader, struct bh_http *http, struct bh_error *err)
{
    reader->replacing = true;
    reader->started = false;
    reader->rows = 0;
    reader->lines.len = 0;
    struct bh_http_stream stream = {
        .path = "/v1/feed/snapshot", .silence_ms = SILENCE_MS, .visit = take_bytes, .arg = reader};
    pthread_mutex_lock(&reader->node->writing);
    enum bh_code code = bh_http_stream(http, &stream, err);
    if (code == BH_OK && stream.status != 200)
        code = bh_fail(err, BH_E_UNAVAILABLE, "feed: the snapshot answered %ld", stream.status);
    if (code == BH_OK && (!reader->started || reader->lines.len))
        code = bh_fail(err, BH_E_INVALID, "feed: the snapshot is cut short");
    if (code == BH_OK) {
        code = close_transaction(reader, err);
    } else if (reader->open) {
        reader->open = false;
        abandon(reader);
    }
    pthread_mutex_unlock(&reader->node->writing);
    if (code == BH_OK)
        bh_log("feed: took a snapshot of %llu records at %llu", (unsigned long long)reader->rows,
            (unsigned long long)reader->seq);
    return code;
}

/* Follow from where we are; 410: ${ret_gone}. */
static enum bh_code
follow(struct reader *reader, struct bh_http *http, bool *ret_gone, struct bh_error *err)
{
    char path[128], incarnation[BH_UID_TEXT];
    bh_uid_format(&reader->incarnation, incarnation);
    snprintf(
        path, sizeof(path), "/v1/feed?after=%s.%llu", incarnation, (unsigned long long)reader->seq);
    reader->replacing = false;
    reader->lines.len = 0;
    struct bh_http_stream stream = {
        .path = path, .silence_ms = SILENCE_MS, .visit = take_bytes, .arg = reader};
    BH_TRY(bh_http_stream(http, &stream, err));
    *ret_gone = stream.status == 410;
    if (*ret_gone || stream.status == 200)
        return BH_OK;
    return bh_fail(err, BH_E_UNAVAILABLE, "feed: the control plane answered %ld", stream.status);
}

/* Where the committed snapshot stands: what was read and not committed is forgotten. */
static bool
position(struct reader *reader)
{
    static const struct bh_uid none;
    pthread_mutex_lock(&reader->node->lock);
    reader->incarnation = reader->node->meta.incarnation;
    reader->seq = reader->node->meta.seq;
    pthread_mutex_unlock(&reader->node->lock);
    reader->caught_up = false;
    return memcmp(&reader->incarnation, &none, sizeof(none)) != 0;
}

static enum bh_code
connect_once(struct reader *reader, struct bh_http *http, struct bh_error *err)
{
    bool gone = !position(reader);
    if (!gone)
        BH_TRY(follow(reader, http, &gone, err));
    if (!gone)
        return BH_OK;
    BH_TRY(replace_all(reader, http, err));
    (void)position(reader);
    return follow(reader, http, &gone, err);
}

static void
lose_step(struct bh_node *node)
{
    pthread_mutex_lock(&node->lock);
    node->in_step = false;
    node->fetch_keys = true; /* keys may have changed while we were away */
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void
sleep_us(int64_t us)
{
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

void *
bh_feed_thread(void *arg)
{
    struct bh_node *node = arg;
    struct bh_error err;
    struct bh_http *http;
    struct reader *reader = calloc(1, sizeof(*reader));
    if (!reader || bh_http_new(node->config.url, node->config.token, &http, &err) != BH_OK)
        abort();
    reader->node = node;
    bh_chunks_init(&reader->chunks);
    int64_t wait = BACKOFF_FIRST_US;
    enum bh_code last = BH_OK;
    for (;;) {
        err.hint[0] = '\0';
        enum bh_code code = connect_once(reader, http, &err);
        if (reader->caught_up) /* it did work: begin with short waits again */
            wait = BACKOFF_FIRST_US, last = BH_OK;
        lose_step(node);
        if (code != BH_OK && code != last)
            bh_log_error("feed", &err);
        last = code;
        sleep_us(bh_jitter(wait));
        wait = wait * 2 > BACKOFF_LAST_US ? BACKOFF_LAST_US : wait * 2;
    }
    return NULL;
}
