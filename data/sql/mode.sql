-- Modes, logins, and what a database that is one tenant's own gets back.
\pset format unaligned
\getenv acme TOKEN_ACME
\c - postgres
\set VERBOSITY terse
SELECT bulkhead.is_own_database();
SELECT count(*) > 100 AS many, count(*) FILTER (WHERE NOT good) AS bad FROM bulkhead.hygiene();
SELECT relation, hidden FROM bulkhead.reserved_columns() ORDER BY 1;
SELECT bulkhead.open_database();
INSERT INTO bulkhead.login VALUES ('bh_o42', 4200);
INSERT INTO bulkhead.login VALUES ('', 42);
UPDATE bulkhead.tenant SET mode = 'other' WHERE no = 42;
-- mode row refuses what tells of others' rows
ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on;
UPDATE bulkhead.tenant SET mode = 'row' WHERE no = 42;
\c - bulkhead_pool
\set VERBOSITY default
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT body FROM notes;
ROLLBACK;
\set VERBOSITY terse
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
EXPLAIN SELECT 1;
ROLLBACK;
\c - postgres
SECURITY LABEL FOR bulkhead ON TABLE t42.notes IS 'shared';
\c - bulkhead_pool
\set VERBOSITY terse
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SELECT body FROM notes;
INSERT INTO notes (body) VALUES ('x');
ROLLBACK;
-- in its own database session state is the tenant's
\c - postgres
SECURITY LABEL FOR bulkhead ON TABLE t42.notes IS NULL;
UPDATE bulkhead.tenant SET mode = 'database' WHERE no = 42;
SELECT object, problem, fix FROM bulkhead.selfcheck() WHERE object LIKE 'tenant %';
\c - bulkhead_pool
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SET my.x = 'kept';
PREPARE p AS SELECT 7 AS seven;
COMMIT;
EXECUTE p;
BEGIN; SELECT bulkhead.enter(:'acme') \gset ignored_
SHOW my.x;
EXECUTE p;
CREATE ROLE evil;
ROLLBACK;
\c - postgres
UPDATE bulkhead.tenant SET mode = 'schema' WHERE no = 42;
ALTER ROLE bulkhead_pool RESET bulkhead.literal_token;
SELECT bulkhead.close_database();
SELECT object, problem, fix FROM bulkhead.selfcheck() WHERE object !~ '^log_';
