-- The table of tenants: what it takes, who may see it, and that a commit counts at once.
\pset format unaligned
\getenv acme TOKEN_ACME
\c - postgres
SET bulkhead.literal_token = on;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = 'bulkhead.tenant'::regclass AND attnum > 0 ORDER BY attnum;
SELECT no, id, mode, role, schema, state, epoch, limits, fence_attempt FROM bulkhead.tenant ORDER BY no;
SELECT p.proname, p.provolatile, p.proparallel, p.proisstrict, p.proleakproof FROM pg_proc p
    WHERE pronamespace = 'bulkhead'::regnamespace AND has_function_privilege('bh_t42', p.oid, 'EXECUTE') ORDER BY 1;
SELECT has_table_privilege('bh_t42', 'bulkhead.tenant', 'SELECT') AS reads,
    has_function_privilege('bh_t42', 'bulkhead.tenant_no()', 'EXECUTE') AS no,
    has_function_privilege('bh_t42', 'pg_advisory_lock(bigint)', 'EXECUTE') AS locks,
    has_function_privilege('bh_t42', 'lo_create(oid)', 'EXECUTE') AS large_objects,
    has_function_privilege('bh_t42', 'pg_terminate_backend(int,bigint)', 'EXECUTE') AS terminates;
\set VERBOSITY terse
INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (0, 'a', 'r', 's', 'active');
INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (1, 'A', 'r', 's', 'active');
INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (1, 'a', 'r', 'pg_temp', 'active');
INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (1, 'a', 'r', 's', 'happy');
INSERT INTO bulkhead.tenant (no, id, role, schema, state, mode) VALUES (1, 'a', 'r', 's', 'active', 'other');
-- every state
SELECT bulkhead.enter(:'acme');
UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42;
SELECT bulkhead.enter(:'acme');
UPDATE bulkhead.tenant SET state = 'moving' WHERE no = 42;
SELECT bulkhead.enter(:'acme');
UPDATE bulkhead.tenant SET state = 'active', epoch = 2 WHERE no = 42;
SELECT bulkhead.enter(:'acme');
UPDATE bulkhead.tenant SET epoch = 1 WHERE no = 42;
BEGIN;
UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42;
ROLLBACK;
BEGIN;
SELECT bulkhead.enter(:'acme');
SELECT current_user, bulkhead.tenant_no();
SELECT count(*) FROM bulkhead.tenant;
ROLLBACK;
BEGIN;
DELETE FROM bulkhead.tenant WHERE no = 42;
PREPARE TRANSACTION 'held';
ROLLBACK;
BEGIN;
TRUNCATE bulkhead.tenant CASCADE;
SELECT bulkhead.enter(:'acme');
ROLLBACK;
SELECT bulkhead.enter(:'acme');
SELECT bulkhead.tenant_changed();
CREATE TABLE other (no int);
CREATE TRIGGER x AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION bulkhead.tenant_changed();
INSERT INTO other VALUES (1);
DROP TABLE other;
