/*
 * What statements may run.
 *
 * For pool roles before a tenant is bound: transaction control, SHOW, RESET ALL
 * and its kin, PgBouncer's five settings, constant SELECTs and enter(); all else
 * is TN001.
 *
 * While a tenant is bound TN005 refuses what would outlive the transaction,
 * reach beyond the tenant or lift its limits: SET, RESET and set_config() for the
 * session, ROLE and SESSION AUTHORIZATION, DISCARD, LISTEN, NOTIFY, PREPARE,
 * EXECUTE, DEALLOCATE, cursors WITH HOLD, temporary objects, LOCK TABLE, LOAD, COPY
 * with a file or program of the server, PREPARE TRANSACTION, statements on roles,
 * default privileges, DROP and REASSIGN OWNED, ALTER DATABASE and SYSTEM.  CALL and DO
 * run, but cannot commit.  EXPLAIN is allowed: a schema holds one tenant's rows.
 */
#ifndef BH_DATA_GUARD_H
#define BH_DATA_GUARD_H

/** bh_guard_install(): put our hooks in front of those that are there; once, at load. */
void bh_guard_install(void);

#endif
