/*
 * A line of the feed (doc/contract/feed.md), read and checked.
 *
 * Nothing of a line that is wrong anywhere is used.  Members that we do not
 * know are ignored, those we know must be there and legal.
 */
#ifndef BH_AGENT_RECORD_H
#define BH_AGENT_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"
#include "snapshot/snapshot.h"

enum bh_line_kind {
    BH_LINE_RECORD,    /* a tenant's record */
    BH_LINE_TOMBSTONE, /* the tenant is gone from this cell */
    BH_LINE_DOCUMENT,  /* a document, or that it is gone */
    BH_LINE_HEAD,      /* heartbeat */
    BH_LINE_START,     /* first line of a snapshot */
};

struct bh_feed_line {
    enum bh_line_kind kind;
    bool has_incarnation;
    struct bh_uid incarnation;
    uint64_t seq; /* of the row, the head, or the snapshot */
    int32_t no;
    uint64_t version;
    struct bh_tenant_facts facts; /* of BH_LINE_RECORD; its strings live in the arena */
    struct bh_str name;           /* of BH_LINE_DOCUMENT */
    struct bh_str body;           /* its JSON; data NULL: it is gone */
};

/** bh_feed_line_parse(text, arena, ret_line, err): BH_E_BAD_REQUEST or BH_E_INVALID says which
 * member is wrong. */
enum bh_code bh_feed_line_parse(struct bh_str text, struct bh_arena *arena,
    struct bh_feed_line *ret_line, struct bh_error *err) BH_MUSTCHECK;

#endif
