/*
 * What statements may run.
 *
 * For pool roles before a tenant is bound: transaction control, SHOW, RESET ALL
 * and its kin, PgBouncer's five settings, constant SELECTs and enter(); all else
 * is TN001.
 *
 * While a tenant is bound TN005 refuses, by its mode:
 * - everywhere, what reaches beyond the database or the tenant: statements on roles and
 *   databases, LOAD, COPY with a file or program of the server, PREPARE TRANSACTION,
 *   extensions that bulkhead.extensions does not name;
 * - in a shared database (`row`, `schema`) what would outlive the transaction or lift
 *   its limits: SET, RESET and set_config() for the session, ROLE and SESSION
 *   AUTHORIZATION, DISCARD, LISTEN, NOTIFY, PREPARE, EXECUTE, DEALLOCATE, cursors WITH
 *   HOLD, temporary objects, LOCK TABLE, default privileges, DROP and REASSIGN OWNED.
 *   CALL and DO run, but cannot commit;
 * - in mode `row` also EXPLAIN, whose counts and estimates are of everybody's rows, and
 *   every statement that changes the schema.
 * Outside its bound transactions a tenant's own login (data/login.h) runs transaction
 * control only: every other statement binds first.
 */
#ifndef BH_DATA_GUARD_H
#define BH_DATA_GUARD_H

/** bh_guard_install(): put our hooks in front of those that are there; once, at load. */
void bh_guard_install(void);

#endif
