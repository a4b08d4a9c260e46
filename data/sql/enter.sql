-- What a client sees: a tenant is bound by its token, for one transaction.
-- tools/test-data puts tokens into the environment; they are literals here, so the role is told to allow that.
\pset format unaligned
\getenv acme TOKEN_ACME
\getenv globex TOKEN_GLOBEX
\getenv anonymous TOKEN_ANONYMOUS
\getenv expired TOKEN_EXPIRED
\c - postgres
ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on;
\c - bulkhead_pool
\set VERBOSITY terse
BEGIN;
SELECT bulkhead.enter(:'acme');
SELECT current_user, session_user, bulkhead.tenant_no(), bulkhead.tenant_id();
SHOW search_path;
SHOW application_name;
SELECT body FROM notes;
COMMIT;
-- gone with the transaction
SELECT bulkhead.tenant_no();
SHOW search_path;
-- the other tenant, on the same connection
BEGIN;
SELECT bulkhead.enter(:'globex');
SELECT body FROM notes;
SELECT body FROM t42.notes;
ROLLBACK;
-- one statement only
SELECT bulkhead.enter(:'acme');
SELECT body FROM notes;
-- enter() twice, and in a subtransaction
BEGIN;
SELECT bulkhead.enter(:'acme');
SELECT bulkhead.enter(:'acme');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT bulkhead.enter(:'acme');
ROLLBACK;
-- tokens that are refused
SELECT bulkhead.enter(NULL);
SELECT bulkhead.enter('');
SELECT bulkhead.enter('a.b.c');
SELECT bulkhead.enter(:'expired');
SELECT bulkhead.enter(:'acme' || 'A');
-- an anonymous scope reads
BEGIN;
SELECT bulkhead.enter(:'anonymous');
SELECT body FROM notes;
-- 15 does this, in vain; 16 refuses it
DO $$BEGIN PERFORM set_config('transaction_read_only', NULL, true); EXCEPTION WHEN OTHERS THEN END$$;
INSERT INTO notes (body) VALUES ('written');
ROLLBACK;
-- savepoints keep the tenant
BEGIN;
SELECT bulkhead.enter(:'acme');
SAVEPOINT s;
SET LOCAL search_path = t43;
SELECT 1/0;
ROLLBACK TO s;
SELECT bulkhead.tenant_no(), body FROM notes;
COMMIT AND CHAIN;
SELECT bulkhead.tenant_no();
ROLLBACK;
-- a literal is an error again
\c - postgres
ALTER ROLE bulkhead_pool RESET bulkhead.literal_token;
\c - bulkhead_pool
\set VERBOSITY default
SELECT bulkhead.enter('some.token.text');
\echo :SQLSTATE
