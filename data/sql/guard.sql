-- Before a tenant is bound a pool role can do next to nothing; while one is, nothing that would outlive it.
\pset format unaligned
\getenv acme TOKEN_ACME
\c - postgres
ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on;
\c - bulkhead_pool
\set VERBOSITY default
SELECT * FROM pg_class;
\set VERBOSITY terse
SELECT 1 AS one, 'two' AS two, 1 + 2 AS three;
SELECT current_user, current_database();
SELECT 'pg_class'::regclass;
SELECT count(*);
SELECT upper('x');
SELECT (SELECT 1);
SELECT set_config('search_path', 't42', false);
SELECT pg_terminate_backend(1);
SET search_path = t42;
SET application_name = 'pooler';
SHOW application_name;
RESET ALL;
CLOSE ALL;
UNLISTEN *;
PREPARE p AS SELECT 1;
LISTEN a;
DISCARD ALL;
EXPLAIN SELECT 1;
COPY (SELECT 1) TO STDOUT;
DO $$BEGIN END$$;
ALTER ROLE bulkhead_pool PASSWORD 'x';
BEGIN;
DECLARE c CURSOR FOR SELECT 1;
ROLLBACK;
-- while bound: each in a transaction of its own
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
PREPARE p AS SELECT 1;
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
LISTEN a;
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
DECLARE c CURSOR WITH HOLD FOR SELECT 1;
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SET ROLE bh_t43;
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT set_config('role', 'bh_t43', false);
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT pg_advisory_lock(1);
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT lo_create(1);
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
DO $$BEGIN COMMIT; END$$;
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
RESET ALL;
ROLLBACK;
-- nothing is set for the session
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SET work_mem = '1MB';
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT set_config('my.x', '1', false);
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SET LOCAL work_mem = '1MB';
SELECT set_config('my.x', '1', true);
SHOW work_mem;
LOCK TABLE notes;
ROLLBACK;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
COPY notes TO PROGRAM 'id';
ROLLBACK;
-- other logins are not touched
\c - postgres
SELECT bulkhead.tenant_no() IS NULL AS no_tenant, count(*) > 0 AS sees FROM pg_class;
ALTER ROLE bulkhead_pool RESET bulkhead.literal_token;
