#include "agent/held.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

#define ITEM_MAX 32 /* bytes of one tenant's member */

void
bh_held_init(struct bh_held *held)
{
    *held = (struct bh_held){.stale = true};
    pthread_mutex_init(&held->lock, NULL);
}

static void
add(struct bh_held *held, int32_t no)
{
    if (held->count == held->room) {
        size_t room = held->room ? 2 * held->room : 16;
        int32_t *nos = realloc(held->nos, room * sizeof(*nos));
        if (!nos) {
            held->stale = true;
            return;
        }
        held->nos = nos;
        held->room = room;
    }
    held->nos[held->count++] = no;
}

void
bh_held_note(struct bh_held *held, int32_t no, bool moving)
{
    pthread_mutex_lock(&held->lock);
    size_t at = 0;
    while (at < held->count && held->nos[at] != no)
        at++;
    if (moving && at == held->count)
        add(held, no);
    else if (!moving && at < held->count)
        held->nos[at] = held->nos[--held->count];
    pthread_mutex_unlock(&held->lock);
}

void
bh_held_clear(struct bh_held *held)
{
    pthread_mutex_lock(&held->lock);
    held->count = 0;
    pthread_mutex_unlock(&held->lock);
}

void
bh_held_lose(struct bh_held *held)
{
    pthread_mutex_lock(&held->lock);
    held->stale = true;
    pthread_mutex_unlock(&held->lock);
}

bool
bh_held_any(struct bh_held *held)
{
    pthread_mutex_lock(&held->lock);
    bool any = held->count > 0;
    pthread_mutex_unlock(&held->lock);
    return any;
}

bool
bh_held_stale(struct bh_held *held)
{
    pthread_mutex_lock(&held->lock);
    bool stale = held->stale;
    pthread_mutex_unlock(&held->lock);
    return stale;
}

static bool
take(void *arg, struct bh_str id, const struct bh_record *record)
{
    struct bh_held *held = arg;
    (void)id;
    if (record->state == BH_TENANT_MOVING)
        add(held, record->no);
    return true;
}

void
bh_held_read(struct bh_held *held, struct bh_snapshot *snapshot)
{
    pthread_mutex_lock(&held->lock);
    if (held->stale) {
        held->count = 0;
        held->stale = false;
        bh_snapshot_each(snapshot, take, held);
    }
    pthread_mutex_unlock(&held->lock);
}

/* ---- counting ---- */

/* The edge makes the file: one that is not there, or belongs to other counters, is waited for. */
static bool
open_counts(struct bh_held_counts *counts, const char *path, struct bh_counters *counters)
{
    if (counts->inflight &&
        (counts->counters != counters || bh_inflight_replaced(counts->inflight, path))) {
        bh_inflight_close(counts->inflight, true);
        counts->inflight = NULL;
    }
    counts->counters = counters;
    return counts->inflight ||
           bh_inflight_open(path, counters, false, &counts->inflight, NULL) == BH_OK;
}

void
bh_held_json(struct bh_held *held, struct bh_held_counts *counts, const char *path,
    struct bh_counters *counters, char ret_text[BH_HELD_TEXT])
{
    struct bh_buf out;
    bh_buf_init(&out, ret_text, BH_HELD_TEXT);
    bh_buf_putc(&out, '{');
    pthread_mutex_lock(&held->lock);
    if (held->count > 0 && open_counts(counts, path, counters)) {
        bh_inflight_sweep(counts->inflight);
        for (size_t i = 0; i < held->count && out.len + ITEM_MAX < BH_HELD_TEXT; i++) {
            struct bh_slot *slot = bh_slot_find(counters, held->nos[i]);
            uint32_t running =
                slot ? bh_inflight_count(counts->inflight, bh_inflight_index(counters, slot)) : 0;
            bh_buf_printf(&out, "%s\"%d\":%u", i ? "," : "", held->nos[i], running);
        }
    }
    pthread_mutex_unlock(&held->lock);
    bh_buf_puts(&out, "}");
    (void)bh_buf_ok(&out);
}
