-- Limits of a tenant, its locks, the fence and the self-check.
\pset format unaligned
\getenv acme TOKEN_ACME
\getenv globex TOKEN_GLOBEX
\c - postgres
\set VERBOSITY terse
SELECT name, setting, unit, context FROM pg_settings WHERE name ~ '^bulkhead[.](statement|lock|idle|work|hash|maint|temp|max_[pls])' ORDER BY 1;
UPDATE bulkhead.tenant SET limits = '{"work_mem": "2MB", "statement_timeout": "5s", "max_locks": 2}' WHERE no = 42;
UPDATE bulkhead.tenant SET limits = '{"work_men": "2MB"}' WHERE no = 42;
UPDATE bulkhead.tenant SET limits = '{"work_mem": 1}' WHERE no = 42;
ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on;
\c - bulkhead_pool
SELECT bulkhead.lock(1);
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SHOW work_mem; SHOW statement_timeout; SHOW lock_timeout;
SET LOCAL work_mem = '1MB';
SET LOCAL work_mem = '2MB';
SELECT bulkhead.lock(1), bulkhead.try_lock(2), bulkhead.try_lock(1);
SAVEPOINT s;
SELECT bulkhead.try_lock(3);
ROLLBACK TO s;
SET LOCAL statement_timeout = 0;
ROLLBACK TO s;
\set VERBOSITY default
SET LOCAL work_mem = '3MB';
\set VERBOSITY terse
ROLLBACK;
SHOW work_mem;
BEGIN; SELECT bulkhead.enter(:'globex') \gset ignored_
SHOW work_mem;
CALL bulkhead.fence(42, 2);
ROLLBACK;
\c - postgres
CALL bulkhead.fence(42, 2);
CALL bulkhead.fence(42, 1);
CALL bulkhead.fence(99, 1);
BEGIN;
CALL bulkhead.fence(42, 3);
ROLLBACK;
SELECT epoch FROM bulkhead.tenant WHERE no = 42;
UPDATE bulkhead.tenant SET epoch = 1, limits = '{}' WHERE no = 42;
ALTER ROLE bulkhead_pool RESET bulkhead.literal_token;
SELECT * FROM bulkhead.selfcheck() WHERE object !~ '^log_';
