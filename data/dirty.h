/*
 * State of a session that no transaction undoes and that the next tenant would
 * find: temporary objects, held cursors, SET for the session, session-level
 * advisory locks, PREPARE, LISTEN.  Statements that the protocol prepared are the
 * driver's and legitimate, and so are PgBouncer's five settings and what the
 * connection started with.
 */
#ifndef BH_DATA_DIRTY_H
#define BH_DATA_DIRTY_H

#include "data/tenant_table.h"

/**
 * bh_dirty_check(mode):
 * Called by enter() for a tenant of ${mode}.  FATAL TN006 where a tenant of a shared
 * database would find such state: a pool drops the connection then.  A pool role
 * can leave none behind, so its sessions are looked through once.
 */
void bh_dirty_check(enum bh_mode mode);

/** bh_dirty_note(): this session may have such state now; look through it again. */
void bh_dirty_note(void);

#endif
