-- The extension `bulkhead`, version 0.1.
\echo Use "CREATE EXTENSION bulkhead" to load this file. \quit

-- The truth about this database's tenants. The control plane's database driver writes it, as superuser;
-- nobody else may read it. The module caches it in shared memory (data/tenant_table.h): its first eight
-- columns must stay as they are.
CREATE TABLE bulkhead.tenant (
    no            int   NOT NULL PRIMARY KEY CHECK (no >= 1),
    id            text  NOT NULL CHECK (id ~ '^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$' AND id !~ '--'),
    mode          text  NOT NULL DEFAULT 'schema' CHECK (mode = 'schema'),
    role          name  NOT NULL CHECK (role <> ''),
    schema        name  NOT NULL CHECK (schema <> '' AND schema !~ '^pg_'),
    state         text  NOT NULL CHECK (state IN
                      ('pending', 'active', 'suspended', 'moving', 'failed', 'offboarding', 'gone')),
    epoch         int   NOT NULL DEFAULT 1 CHECK (epoch >= 0),
    limits        jsonb NOT NULL DEFAULT '{}',
    fence_attempt bigint NOT NULL DEFAULT 0
);
REVOKE ALL ON bulkhead.tenant FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.tenant', '');

CREATE FUNCTION bulkhead.tenant_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'bh_tenant_changed';
REVOKE ALL ON FUNCTION bulkhead.tenant_changed() FROM PUBLIC;
CREATE TRIGGER tenant_changed AFTER INSERT OR UPDATE OR DELETE ON bulkhead.tenant
    FOR EACH ROW EXECUTE FUNCTION bulkhead.tenant_changed();
CREATE TRIGGER tenant_truncated AFTER TRUNCATE ON bulkhead.tenant
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead.tenant_changed();
-- Also under session_replication_role = replica.
ALTER TABLE bulkhead.tenant ENABLE ALWAYS TRIGGER tenant_changed;
ALTER TABLE bulkhead.tenant ENABLE ALWAYS TRIGGER tenant_truncated;

-- Not STRICT: a NULL token is an error (TN002), never a quiet nothing.
CREATE FUNCTION bulkhead.enter(token text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bh_enter';
-- STABLE, never IMMUTABLE: a plan that was made for one tenant runs for the next.
CREATE FUNCTION bulkhead.tenant_no() RETURNS int
    LANGUAGE c STABLE LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'bh_tenant_no';
CREATE FUNCTION bulkhead.tenant_id() RETURNS text
    LANGUAGE c STABLE LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'bh_tenant_id';

-- Exclusive, waited for by lock() and tried by try_lock(), released at the end of the transaction; the key is
-- the tenant's own. STRICT: a NULL key locks nothing, as in pg_advisory_lock().
CREATE FUNCTION bulkhead.lock(key bigint) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bh_lock';
CREATE FUNCTION bulkhead.try_lock(key bigint) RETURNS bool
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bh_try_lock';
COMMENT ON FUNCTION bulkhead.lock(bigint) IS 'waits for an advisory lock of the bound tenant';
COMMENT ON FUNCTION bulkhead.try_lock(bigint) IS 'takes an advisory lock of the bound tenant if it is free';

-- Commits the epoch, so it is a procedure; EXECUTE is the superuser's (the database driver's) only.
CREATE PROCEDURE bulkhead.fence(no int, epoch int, deadline interval DEFAULT '5s')
    LANGUAGE c AS 'MODULE_PATHNAME', 'bh_fence';
REVOKE ALL ON PROCEDURE bulkhead.fence(int, int, interval) FROM PUBLIC;
COMMENT ON PROCEDURE bulkhead.fence(int, int, interval) IS
    'raises a tenant''s epoch and returns when no transaction of an older one is left';

COMMENT ON FUNCTION bulkhead.enter(text) IS
    'binds this transaction to the tenant of a signed token; pass it as a bind parameter';
COMMENT ON FUNCTION bulkhead.tenant_no() IS 'number of the bound tenant';
COMMENT ON FUNCTION bulkhead.tenant_id() IS 'id of the bound tenant';

-- enter() needs a valid token, and the other two tell a tenant its own name.
GRANT USAGE ON SCHEMA bulkhead TO PUBLIC;

-- What PUBLIC may call in a stock database and what, in a shared one, outlives a transaction, reaches other
-- sessions or writes past row and schema rights. These revokes hold in this database only, and DROP EXTENSION
-- does not take them back.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384 AND (
            -- locks that tenants could block each other with; bulkhead.lock() is theirs
            p.proname ~ '^pg_(try_)?advisory_'
            -- large objects have one name space for all
            OR p.proname ~ '^lo_' OR p.proname IN ('loread', 'lowrite')
            -- other sessions
            OR p.proname IN ('pg_notify', 'pg_listening_channels', 'pg_terminate_backend', 'pg_cancel_backend',
                'pg_stat_get_activity', 'pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_lock_status',
                'pg_export_snapshot', 'pg_logical_emit_message',
                -- texts that other tenants' statements left in this session
                'pg_prepared_statement')
            OR p.proname ~ '^pg_stat_get_backend_')
    LOOP
        EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
    -- PostgreSQL's own monitoring roles keep what is their purpose.
    FOR f IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (p.proname ~ '^pg_stat_get_backend_'
            OR p.proname IN ('pg_stat_get_activity', 'pg_blocking_pids', 'pg_lock_status'))
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO pg_monitor', f);
    END LOOP;
    GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend(int, bigint), pg_catalog.pg_cancel_backend(int)
        TO pg_signal_backend;
END
$$;
