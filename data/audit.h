/*
 * Which refusals are attempts, and get into the audit ring: each error once when
 * it is raised, whether the client hears of it or an EXCEPTION block catches it.
 *
 *   TN001 TN002 TN003 TN005 TN006  of every session
 *   42501 (no right, row security)  of a bound transaction or a pool role
 *   25006 (read only)               of a bound transaction of scope `anonymous`
 *   2D000 (COMMIT inside a call)    of a bound transaction in a shared database
 *
 * TN004 and TN007 ask to come again, and what an application raises by itself
 * (RAISE … ERRCODE) is its own affair: neither is an attempt.
 *
 * Only what begins a subtransaction can catch an error and go on.  So whenever
 * one begins, and after each parse, a context callback of ours is put at the end
 * of PostgreSQL's stack of them: every error raised from there on passes it.  All
 * others reach the client, and with it emit_log_hook.
 */
#ifndef BH_DATA_AUDIT_H
#define BH_DATA_AUDIT_H

#include "postgres.h"

/** bh_audit_install(): put our hooks in front of those that are there; once, at load. */
void bh_audit_install(void);

/**
 * bh_audit_logged(error):
 * ${error} is about to be logged: records it if nobody has.  Where the rate limit
 * kept it out of the ring it is kept out of the server's log, too.
 */
void bh_audit_logged(ErrorData *error);

#endif
