/*
 * The audit ring, and the rate limits of those who write: the last bulkhead.audit_entries refusals
 * of this server, in shared memory.  Nothing here raises, allocates, or waits for a reader: writers
 * take one spinlock for the time of a copy, readers take none and notice what was
 * overwritten under them.  It begins anew with each start of the server.
 */
#ifndef BH_DATA_RING_H
#define BH_DATA_RING_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/tenant.h"
#include "core/token.h"
#include "data/refusal.h"

struct bh_ring_entry {
    TimestampTz at;
    uint64 suppressed; /* refusals of the same actor before this one that the rate limit kept out */
    uint64 fingerprint; /* of the client's statement, if ${statement} */
    bool statement;
    int32 no; /* 0: no tenant is known */
    int sqlstate;
    Oid database;
    char tenant[BH_TENANT_ID_MAX + 1];
    char subject[BH_TOKEN_SUB_MAX + 1];
    struct bh_refusal refusal;
};

struct bh_ring_state {
    int64 epoch;       /* Unix time in us at which the ring began */
    uint64 head;       /* number of the newest entry; 0: none yet */
    uint64 oldest;     /* of the oldest that is still there, or would be */
    uint64 suppressed; /* refusals that the rate limit has kept out so far */
};

/** bh_ring_request() / bh_ring_startup(): shared memory, from the hooks of these names. */
void bh_ring_request(void);
void bh_ring_startup(void);

enum bh_ring_limit {
    BH_RING_AUDIT, /* bulkhead.audit_burst entries, and bulkhead.audit_rate more in a second */
    BH_RING_LOG    /* 1000 messages in the server's log, and bulkhead.log_rate more in a second */
};

/**
 * bh_ring_admit(limit, actor, ret_suppressed):
 * May one more of ${actor} (not 0, its second highest bit not set) pass?  If so,
 * ${ret_suppressed} is how many of his did not since the last one; else this one is
 * counted so.
 */
bool bh_ring_admit(enum bh_ring_limit limit, uint64 actor, uint64 *ret_suppressed);

/** bh_ring_refuse(limit, actor): count one of ${actor} that may not pass for another reason. */
void bh_ring_refuse(enum bh_ring_limit limit, uint64 actor);

/** bh_ring_add(entry): ${entry} becomes the newest; the oldest goes where the ring is full. */
void bh_ring_add(const struct bh_ring_entry *entry);

/** bh_ring_look(ret_state): what there is. */
void bh_ring_look(struct bh_ring_state *ret_state);

/**
 * bh_ring_read(seq, ret_entry):
 * A copy of entry ${seq}, 1 to the head that bh_ring_look() gave.  False where it
 * has been overwritten.
 */
bool bh_ring_read(uint64 seq, struct bh_ring_entry *ret_entry);

#endif
