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
-- sessions or writes past row and schema rights.
CREATE FUNCTION bulkhead.reserved_functions() RETURNS SETOF regprocedure
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.oid::regprocedure FROM pg_proc p
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
        OR p.proname ~ '^pg_stat_get_backend_');
END;
REVOKE ALL ON FUNCTION bulkhead.reserved_functions() FROM PUBLIC;

-- These revokes hold in this database only, and DROP EXTENSION does not take them back.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT bulkhead.reserved_functions() LOOP
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

-- What is not as it was at install, or as a shared database needs it: one row for each, none where all is well.
-- `fix` is one SQL statement, or what to do where SQL cannot. Sees this database and the server's settings.
CREATE FUNCTION bulkhead.key_file_problem() RETURNS text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'bh_key_file_problem';
CREATE FUNCTION bulkhead.is_pool_role(role name) RETURNS bool
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'bh_is_pool_role';
REVOKE ALL ON FUNCTION bulkhead.key_file_problem(), bulkhead.is_pool_role(name) FROM PUBLIC;

CREATE FUNCTION bulkhead.selfcheck() RETURNS TABLE (object text, problem text, fix text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- the server
    SELECT 'bulkhead.key_file', bulkhead.key_file_problem(), 'repair the file, then SELECT pg_reload_conf()'
    WHERE bulkhead.key_file_problem() IS NOT NULL
    UNION ALL
    SELECT s.name, 'logs bound values, and tokens are among them',
        format('ALTER SYSTEM SET %I = 0', s.name)
    FROM pg_settings s
    WHERE s.name IN ('log_parameter_max_length', 'log_parameter_max_length_on_error') AND s.reset_val <> '0'
    UNION ALL
    SELECT 'extension bulkhead', format('is version %s, the server has %s', e.extversion, a.default_version),
        'ALTER EXTENSION bulkhead UPDATE'
    FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
    WHERE e.extname = 'bulkhead' AND e.extversion <> a.default_version
    UNION ALL
    -- what PUBLIC may do
    SELECT format('database %I', d.datname), format('PUBLIC has %s', r.privilege_type),
        format('REVOKE %s ON DATABASE %I FROM PUBLIC', r.privilege_type, d.datname)
    FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) r
    WHERE d.datname = current_database() AND r.grantee = 0
    UNION ALL
    SELECT format('schema %I', n.nspname), 'PUBLIC may create objects in it',
        format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname)
    FROM pg_namespace n, aclexplode(n.nspacl) r WHERE r.grantee = 0 AND r.privilege_type = 'CREATE'
    UNION ALL
    SELECT format('schema %I', n.nspname), 'is a tenant''s, and PUBLIC may use it',
        format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', n.nspname)
    FROM bulkhead.tenant t JOIN pg_namespace n ON n.nspname = t.schema, aclexplode(n.nspacl) r
    WHERE r.grantee = 0 AND r.privilege_type = 'USAGE'
    UNION ALL
    SELECT format('function %s', p.oid::regprocedure), 'PUBLIC may call it',
        format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
    FROM bulkhead.reserved_functions() f(oid) JOIN pg_proc p ON p.oid = f.oid,
        aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r
    WHERE r.grantee = 0
    UNION ALL
    -- what is the extension's own
    SELECT format('routine %s', p.oid::regprocedure), format('%s may call it', coalesce(g.rolname, 'PUBLIC')),
        format('REVOKE ALL ON ROUTINE %s FROM %s', p.oid::regprocedure, coalesce(quote_ident(g.rolname), 'PUBLIC'))
    FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r
        LEFT JOIN pg_roles g ON g.oid = r.grantee
    WHERE p.pronamespace = 'bulkhead'::regnamespace AND r.grantee <> p.proowner
        AND p.proname NOT IN ('enter', 'tenant_no', 'tenant_id', 'lock', 'try_lock')
    UNION ALL
    SELECT 'table bulkhead.tenant', format('%s has %s', coalesce(g.rolname, 'PUBLIC'), r.privilege_type),
        format('REVOKE %s ON bulkhead.tenant FROM %s', r.privilege_type, coalesce(quote_ident(g.rolname), 'PUBLIC'))
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) r LEFT JOIN pg_roles g ON g.oid = r.grantee
    WHERE c.oid = 'bulkhead.tenant'::regclass AND r.grantee <> c.relowner
    UNION ALL
    SELECT 'table bulkhead.tenant', format('its trigger %I does not fire always: changes go unseen', x.name),
        format('ALTER TABLE bulkhead.tenant ENABLE ALWAYS TRIGGER %I', x.name)
    FROM (VALUES ('tenant_changed'), ('tenant_truncated')) x(name)
    WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'bulkhead.tenant'::regclass
        AND t.tgname = x.name AND t.tgenabled = 'A')
    UNION ALL
    -- roles
    SELECT 'bulkhead.pool_roles', 'names no login of this server: nobody is guarded',
        'set it to the login of the applications, then SELECT pg_reload_conf()'
    WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE bulkhead.is_pool_role(r.rolname))
    UNION ALL
    SELECT format('role %I', r.rolname), format('is %s, and has %s', k.kind, x.attribute),
        format('ALTER ROLE %I NO%s', r.rolname, x.attribute)
    FROM pg_roles r
        JOIN LATERAL (SELECT 'a pool role' WHERE bulkhead.is_pool_role(r.rolname)
            UNION ALL SELECT 'a tenant''s' WHERE r.rolname IN (SELECT t.role FROM bulkhead.tenant t)) k(kind) ON true
        JOIN LATERAL (VALUES ('SUPERUSER', r.rolsuper), ('BYPASSRLS', r.rolbypassrls), ('REPLICATION', r.rolreplication),
            ('CREATEROLE', r.rolcreaterole), ('CREATEDB', r.rolcreatedb)) x(attribute, has) ON x.has
    UNION ALL
    SELECT format('role %I', m.rolname), format('is %s, and a member of %I', k.kind, g.rolname),
        format('REVOKE %I FROM %I', g.rolname, m.rolname)
    FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
        JOIN LATERAL (SELECT 'a pool role' WHERE bulkhead.is_pool_role(m.rolname)
            UNION ALL SELECT 'a tenant''s' WHERE m.rolname IN (SELECT t.role FROM bulkhead.tenant t)) k(kind) ON true
    UNION ALL
    SELECT format('tenant %s', t.no), format('its role %I or its schema %I does not exist', t.role, t.schema),
        'apply the tenant again'
    FROM bulkhead.tenant t
    WHERE t.state = 'active' AND (to_regnamespace(quote_ident(t.schema)) IS NULL OR to_regrole(quote_ident(t.role)) IS NULL);
END;
REVOKE ALL ON FUNCTION bulkhead.selfcheck() FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.selfcheck() IS 'what drifted from what a shared database needs; no rows where all is well';
