-- What a tenant used and its share, as SQL shows them.
\pset format unaligned
\getenv acme TOKEN_ACME
\c - postgres
\set VERBOSITY terse
\d bulkhead.usage
SELECT p.oid::regprocedure, p.proacl IS NOT NULL AS revoked, pg_get_function_result(p.oid) FROM pg_proc p
    WHERE p.pronamespace = 'bulkhead'::regnamespace AND p.proname IN ('usage_read', 'shares') ORDER BY 1;
SELECT name, setting, unit, context FROM pg_settings
    WHERE name ~ '^bulkhead[.](usage_entries|database_|max_concurrent|max_wait)' ORDER BY 1;
UPDATE bulkhead.tenant SET limits = '{"max_concurrent_statements": 4, "database_ms_per_s": 1, "database_burst_ms": 500, "max_wait_ms": 0}'
    WHERE no = 42;
ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on;
\c - bulkhead_pool
SELECT * FROM bulkhead.usage;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT count(*) FROM notes WHERE id = 1;
SAVEPOINT s;
SELECT * FROM bulkhead.usage;
ROLLBACK TO s;
SELECT * FROM bulkhead.shares();
ROLLBACK TO s;
SELECT pg_sleep(0.6) IS NULL AS slept;
SELECT 1;
ROLLBACK;
\c - postgres
SELECT source, file_epoch > 1e15 AS epoch, sampled_at <= clock_timestamp() AS sampled, meter, value > 0 AS used
    FROM bulkhead.usage WHERE no = 42 AND meter IN ('db_statements', 'db_rows', 'db_active_us', 'db_errors');
SELECT no, running, waiting, budget_ms < 0 AS in_debt FROM bulkhead.shares() WHERE no = 42;
UPDATE bulkhead.tenant SET limits = '{}' WHERE no = 42;
ALTER ROLE bulkhead_pool RESET bulkhead.literal_token;
