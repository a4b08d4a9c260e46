-- Resets of connection pools (asyncpg's, for one) end with SELECT pg_advisory_unlock_all(). A tenant's session holds
-- no session lock, and bulkhead.lock() ends with its transaction: nothing is left that this could release.
CREATE OR REPLACE FUNCTION bulkhead.reserved_functions() RETURNS SETOF regprocedure
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384 AND (
        -- locks that tenants could block each other with; bulkhead.lock() is theirs
        p.proname ~ '^pg_(try_)?advisory_' AND p.proname <> 'pg_advisory_unlock_all'
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
GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_unlock_all() TO PUBLIC;

