/*
 * The tenants that are being moved, and how many of their requests are in
 * flight at this node: the control plane waits for that.
 */
#ifndef BH_AGENT_HELD_H
#define BH_AGENT_HELD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/inflight.h"
#include "snapshot/snapshot.h"

#define BH_HELD_TEXT 16384 /* bytes of the JSON object */

/* Follows the rows of the feed; what a transaction that failed said makes it read the snapshot
 * anew. */
struct bh_held {
    pthread_mutex_t lock; /* of all */
    int32_t *nos;
    size_t count;
    size_t room;
    bool stale; /* the snapshot knows better */
};

void bh_held_init(struct bh_held *held);

/** bh_held_note(held, no, moving): a row of the feed said so. */
void bh_held_note(struct bh_held *held, int32_t no, bool moving);

/** bh_held_clear(held): all tenants were dropped. */
void bh_held_clear(struct bh_held *held);

/** bh_held_lose(held): what was noted last did not come to be. */
void bh_held_lose(struct bh_held *held);

/** bh_held_any(held): is there one? / bh_held_stale(held): must it be read again? */
bool bh_held_any(struct bh_held *held);
bool bh_held_stale(struct bh_held *held);

/** bh_held_read(held, snapshot): take the tenants from the snapshot; between begin and end. */
void bh_held_read(struct bh_held *held, struct bh_snapshot *snapshot);

/* Where one thread reads the counts. */
struct bh_held_counts {
    struct bh_counters *counters;
    struct bh_inflight *inflight; /* NULL: not open */
};

/**
 * bh_held_json(held, counts, path, counters, ret_text):
 * The object {"<no>":<requests in flight>, …} of all that are held; one that is
 * not named is not known.  ${path} and ${counters}: the counters file.
 */
void bh_held_json(struct bh_held *held, struct bh_held_counts *counts, const char *path,
    struct bh_counters *counters, char ret_text[BH_HELD_TEXT]);

#endif
