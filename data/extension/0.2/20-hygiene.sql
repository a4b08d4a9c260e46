-- What PUBLIC may do in a stock database and not in a shared one; a tenant's own database is opened again.

-- One row once bulkhead.open_database() was called; else the database is shared.
CREATE TABLE bulkhead.own_database (it bool NOT NULL PRIMARY KEY DEFAULT true CHECK (it));
REVOKE ALL ON bulkhead.own_database FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('bulkhead.own_database', '');

CREATE FUNCTION bulkhead.is_own_database() RETURNS bool
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM bulkhead.own_database);
END;

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
        OR p.proname IN ('pg_notify', 'pg_listening_channels', 'pg_notification_queue_usage', 'pg_terminate_backend',
            'pg_cancel_backend', 'pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_isolation_test_session_is_blocked',
            'pg_lock_status', 'pg_prepared_xact', 'pg_export_snapshot', 'pg_logical_emit_message', 'pg_get_replication_slots',
            -- texts that other tenants' statements left in this session
            'pg_prepared_statement')
        -- how much others have and do
        OR p.proname ~ '^pg_stat_get_'
        OR p.proname ~ '^pg_(relation|table|indexes|total_relation|database|tablespace)_size$'
        -- which blocks others write (17)
        OR p.proname IN ('pg_available_wal_summaries', 'pg_wal_summary_contents', 'pg_get_wal_summarizer_state')
        OR p.proname ~ '^txid_' OR p.proname ~ '^pg_control_' OR p.proname ~ '^pg_(current|last)_wal_' OR p.proname ~ '^pg_walfile_name'
        OR p.proname IN ('pg_current_xact_id', 'pg_current_xact_id_if_assigned', 'pg_current_snapshot', 'pg_xact_status',
            'pg_last_committed_xact', 'pg_xact_commit_timestamp', 'pg_xact_commit_timestamp_origin', 'pg_last_xact_replay_timestamp')
        -- rows by their place, past row security
        OR p.proname IN ('currtid2', 'pg_get_multixact_members')
        -- other tenants' code; what drivers and ORMs read (columns, keys, indexes, defaults, triggers) stays
        OR p.proname IN ('pg_get_functiondef', 'pg_get_function_sqlbody', 'pg_get_viewdef', 'pg_get_ruledef',
            'pg_get_statisticsobjdef', 'pg_get_statisticsobjdef_expressions'));
END;

-- Columns of catalogues with other tenants' code and settings. `open`: what PostgreSQL grants to PUBLIC there.
CREATE FUNCTION bulkhead.reserved_columns() RETURNS TABLE (relation regclass, hidden text[], open text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT x.relation::regclass, x.hidden,
        CASE WHEN x.secret IS NULL THEN format('GRANT SELECT ON %s TO PUBLIC', x.relation)
            ELSE (SELECT format('GRANT SELECT (%s) ON %s TO PUBLIC', string_agg(quote_ident(a.attname), ', '), x.relation)
                FROM pg_attribute a
                WHERE a.attrelid = x.relation::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> x.secret) END
    FROM (VALUES ('pg_catalog.pg_proc', '{prosrc,probin,prosqlbody}'::text[], NULL),
        ('pg_catalog.pg_rewrite', '{ev_qual,ev_action}', NULL),
        ('pg_catalog.pg_roles', '{rolconfig}', NULL),
        ('pg_catalog.pg_user', '{useconfig}', NULL),
        ('pg_catalog.pg_db_role_setting', '{setdatabase,setrole,setconfig}', NULL),
        ('pg_catalog.pg_subscription', NULL, 'subconninfo')) x(relation, hidden, secret);
END;

-- One row for each right: whether it is as this database needs it, and the statement that makes it so.
CREATE FUNCTION bulkhead.hygiene() RETURNS TABLE (object text, good bool, problem text, fix text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT format('function %s', p.oid::regprocedure), x.open = bulkhead.is_own_database(),
        CASE WHEN x.open THEN 'PUBLIC may call it' ELSE 'PUBLIC may not call it, and this is a tenant''s own database' END,
        format(CASE WHEN x.open THEN 'REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC' ELSE 'GRANT EXECUTE ON FUNCTION %s TO PUBLIC' END,
            p.oid::regprocedure)
    FROM bulkhead.reserved_functions() f(oid) JOIN pg_proc p ON p.oid = f.oid
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r
            WHERE r.grantee = 0)) x(open)
    WHERE p.proname NOT IN ('lo_import', 'lo_export') OR x.open
    UNION ALL
    SELECT format('catalogue %s', c.relation), x.open = bulkhead.is_own_database(),
        CASE WHEN x.open THEN 'PUBLIC may read code or settings of others in it'
            ELSE 'PUBLIC may not read all of it, and this is a tenant''s own database' END,
        CASE WHEN x.open THEN 'SELECT bulkhead.close_database()' ELSE 'SELECT bulkhead.open_database()' END
    FROM bulkhead.reserved_columns() c
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_class t, aclexplode(t.relacl) r
                WHERE t.oid = c.relation AND r.grantee = 0 AND r.privilege_type = 'SELECT')
            OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) r
                WHERE a.attrelid = c.relation AND r.grantee = 0 AND (c.hidden IS NULL OR a.attname = ANY (c.hidden)))) x(open);
END;

-- Makes this database as a shared one has to be: the extension does it when it is created. May be repeated.
CREATE FUNCTION bulkhead.close_database() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    it record;
    visible text;
BEGIN
    DELETE FROM bulkhead.own_database;
    FOR it IN SELECT h.fix FROM bulkhead.hygiene() h WHERE NOT h.good AND h.object LIKE 'function %' LOOP
        EXECUTE it.fix;
    END LOOP;
    FOR it IN SELECT c.relation, c.hidden FROM bulkhead.reserved_columns() c LOOP
        EXECUTE format('REVOKE SELECT ON %s FROM PUBLIC', it.relation);
        SELECT string_agg(quote_ident(a.attname), ', ') INTO visible FROM pg_attribute a
        WHERE a.attrelid = it.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (it.hidden);
        IF visible IS NOT NULL THEN
            EXECUTE format('GRANT SELECT (%s) ON %s TO PUBLIC', visible, it.relation);
        END IF;
    END LOOP;
    -- PostgreSQL's own monitoring roles keep what is their purpose.
    FOR it IN SELECT f.oid FROM bulkhead.reserved_functions() f(oid) JOIN pg_proc p ON p.oid = f.oid
        WHERE p.proname ~ '^pg_stat_get_|_size$|^pg_(current|last)_wal_'
            OR p.proname IN ('pg_blocking_pids', 'pg_lock_status', 'pg_get_replication_slots', 'pg_last_xact_replay_timestamp')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO pg_monitor', it.oid);
    END LOOP;
    GRANT EXECUTE ON FUNCTION pg_terminate_backend(int, bigint), pg_cancel_backend(int) TO pg_signal_backend;
END
$$;

-- Gives PUBLIC in this database back what a stock one has: for the one tenant whose own it is. May be repeated.
CREATE FUNCTION bulkhead.open_database() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared bulkhead.tenant;
    it record;
BEGIN
    SELECT * INTO shared FROM bulkhead.tenant t WHERE t.mode IN ('row', 'schema') AND t.state <> 'gone' ORDER BY t.no LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'tenant % is of mode %, its database is shared', shared.no, shared.mode
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Only a database of one tenant of mode database or instance can be opened.';
    END IF;
    INSERT INTO bulkhead.own_database DEFAULT VALUES ON CONFLICT DO NOTHING;
    FOR it IN SELECT h.fix FROM bulkhead.hygiene() h WHERE NOT h.good AND h.object LIKE 'function %' LOOP
        EXECUTE it.fix;
    END LOOP;
    FOR it IN SELECT c.open FROM bulkhead.reserved_columns() c LOOP
        EXECUTE it.open;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bulkhead.is_own_database(), bulkhead.reserved_columns(), bulkhead.hygiene(), bulkhead.close_database(),
    bulkhead.open_database() FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.close_database() IS 'takes from PUBLIC what a shared database cannot leave it';
COMMENT ON FUNCTION bulkhead.open_database() IS 'gives PUBLIC what a stock database has: for one tenant''s own database';
SELECT bulkhead.close_database();

-- Of the scripts that the loaded module belongs to. pg_available_extensions does not look into extension_destdir.
CREATE FUNCTION bulkhead.module_version() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'bh_module_version';
REVOKE ALL ON FUNCTION bulkhead.module_version() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bulkhead.selfcheck() RETURNS TABLE (object text, problem text, fix text)
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
    SELECT s.name, 'is above error: refusals outside a bound transaction are not recorded',
        format('ALTER SYSTEM SET %I = warning', s.name)
    FROM pg_settings s WHERE s.name = 'log_min_messages' AND s.reset_val IN ('log', 'fatal', 'panic')
    UNION ALL
    SELECT 'extension bulkhead', format('is version %s, the server has %s', e.extversion, bulkhead.module_version()),
        'ALTER EXTENSION bulkhead UPDATE'
    FROM pg_extension e WHERE e.extname = 'bulkhead' AND e.extversion <> bulkhead.module_version()
    UNION ALL
    -- what PUBLIC may do
    SELECT format('database %I', d.datname), format('PUBLIC has %s', r.privilege_type),
        format('REVOKE %s ON DATABASE %I FROM PUBLIC', r.privilege_type, d.datname)
    FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) r
    WHERE d.datname = current_database() AND r.grantee = 0
    UNION ALL
    SELECT format('schema %I', n.nspname), 'PUBLIC may create objects in it',
        format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname)
    FROM pg_namespace n, aclexplode(n.nspacl) r WHERE r.grantee = 0 AND r.privilege_type = 'CREATE' AND NOT bulkhead.is_own_database()
    UNION ALL
    SELECT format('schema %I', n.nspname), 'is a tenant''s, and PUBLIC may use it',
        format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', n.nspname)
    FROM bulkhead.tenant t JOIN pg_namespace n ON n.nspname = t.schema, aclexplode(n.nspacl) r
    WHERE r.grantee = 0 AND r.privilege_type = 'USAGE' AND NOT bulkhead.is_own_database()
    UNION ALL
    SELECT h.object, h.problem, h.fix FROM bulkhead.hygiene() h WHERE NOT h.good
    UNION ALL
    SELECT format('tenant %s', t.no), format('is of mode %s, and this database is %s', t.mode,
            CASE WHEN bulkhead.is_own_database() THEN 'one tenant''s own' ELSE 'shared' END),
        CASE WHEN bulkhead.is_own_database() THEN 'SELECT bulkhead.close_database()' ELSE 'SELECT bulkhead.open_database()' END
    FROM bulkhead.tenant t
    WHERE t.state <> 'gone' AND (t.mode IN ('row', 'schema')) = bulkhead.is_own_database()
    UNION ALL
    SELECT format('view %s', c.oid::regclass), 'PUBLIC may read it: in mode row tenants see each other''s statements',
        format('REVOKE SELECT ON %s FROM PUBLIC', c.oid::regclass)
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) r
    WHERE c.relname = 'pg_stat_statements' AND c.relkind = 'v' AND r.grantee = 0 AND NOT bulkhead.is_own_database()
        AND EXISTS (SELECT FROM bulkhead.tenant t WHERE t.mode = 'row')
    UNION ALL
    SELECT format('function %s', p.oid::regprocedure), 'PUBLIC may call it: in mode row tenants see each other''s statements',
        format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
    FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r
    WHERE p.proname = 'pg_stat_statements' AND r.grantee = 0 AND NOT bulkhead.is_own_database()
        AND EXISTS (SELECT FROM bulkhead.tenant t WHERE t.mode = 'row')
    UNION ALL
    -- what is the extension's own
    SELECT format('routine %s', p.oid::regprocedure), format('%s may call it', coalesce(g.rolname, 'PUBLIC')),
        format('REVOKE ALL ON ROUTINE %s FROM %s', p.oid::regprocedure, coalesce(quote_ident(g.rolname), 'PUBLIC'))
    FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r
        LEFT JOIN pg_roles g ON g.oid = r.grantee
    WHERE p.pronamespace = 'bulkhead'::regnamespace AND r.grantee <> p.proowner
        AND p.proname NOT IN ('enter', 'tenant_no', 'tenant_id', 'lock', 'try_lock')
    UNION ALL
    SELECT format('table %s', c.oid::regclass), format('%s has %s', coalesce(g.rolname, 'PUBLIC'), r.privilege_type),
        format('REVOKE %s ON %s FROM %s', r.privilege_type, c.oid::regclass, coalesce(quote_ident(g.rolname), 'PUBLIC'))
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) r LEFT JOIN pg_roles g ON g.oid = r.grantee
    WHERE c.relnamespace = 'bulkhead'::regnamespace AND r.grantee <> c.relowner
    UNION ALL
    SELECT format('table bulkhead.%I', x.tab), format('its trigger %I does not fire always: changes go unseen', x.name),
        format('ALTER TABLE bulkhead.%I ENABLE ALWAYS TRIGGER %I', x.tab, x.name)
    FROM (VALUES ('tenant', 'tenant_changed'), ('tenant', 'tenant_truncated'), ('login', 'login_changed')) x(tab, name)
    WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = format('bulkhead.%I', x.tab)::regclass
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
            UNION ALL SELECT 'a tenant''s' WHERE r.rolname IN
                (SELECT t.role FROM bulkhead.tenant t UNION ALL SELECT l.role FROM bulkhead.login l)) k(kind) ON true
        JOIN LATERAL (VALUES ('SUPERUSER', r.rolsuper), ('BYPASSRLS', r.rolbypassrls), ('REPLICATION', r.rolreplication),
            ('CREATEROLE', r.rolcreaterole), ('CREATEDB', r.rolcreatedb)) x(attribute, has) ON x.has
    UNION ALL
    SELECT format('role %I', m.rolname), format('is %s, and a member of %I', k.kind, g.rolname),
        format('REVOKE %I FROM %I', g.rolname, m.rolname)
    FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
        JOIN LATERAL (SELECT 'a pool role' WHERE bulkhead.is_pool_role(m.rolname)
            UNION ALL SELECT 'a tenant''s' WHERE m.rolname IN (SELECT t.role FROM bulkhead.tenant t)
                AND NOT bulkhead.is_own_database()) k(kind) ON true
    UNION ALL
    SELECT format('tenant %s', t.no), format('its role %I or its schema %I does not exist', t.role, t.schema),
        'apply the tenant again'
    FROM bulkhead.tenant t
    WHERE t.state = 'active' AND (to_regnamespace(quote_ident(t.schema)) IS NULL OR to_regrole(quote_ident(t.role)) IS NULL)
    UNION ALL
    SELECT DISTINCT format('role %I', r.rolname), 'is shared by the tenants of mode row, and may log in: then nothing tells them apart',
        format('ALTER ROLE %I NOLOGIN', r.rolname)
    FROM bulkhead.tenant t JOIN pg_roles r ON r.rolname = t.role
    WHERE t.mode = 'row' AND t.state <> 'gone' AND r.rolcanlogin
    UNION ALL
    SELECT format('login %I', l.role), 'is of a tenant, and no role of this server has this name',
        format('DELETE FROM bulkhead.login WHERE role = %L', l.role)
    FROM bulkhead.login l WHERE to_regrole(quote_ident(l.role)) IS NULL
    UNION ALL
    SELECT format('login %I', l.role), 'is of a tenant, and a pool role: it stays a pool role',
        format('DELETE FROM bulkhead.login WHERE role = %L', l.role)
    FROM bulkhead.login l WHERE bulkhead.is_pool_role(l.role)
    UNION ALL
    -- a login is bound where its tenant is; anywhere else it is nobody's
    SELECT DISTINCT format('database %I', d.datname), 'PUBLIC may connect to it, and so may logins of tenants, which nothing binds there',
        format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', d.datname)
    FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) r
    WHERE d.datallowconn AND d.datname <> current_database() AND r.grantee = 0 AND r.privilege_type = 'CONNECT'
        AND EXISTS (SELECT FROM pg_roles g WHERE g.rolcanlogin AND NOT bulkhead.is_pool_role(g.rolname) AND g.rolname IN
            (SELECT t.role FROM bulkhead.tenant t WHERE t.mode <> 'row' UNION ALL SELECT l.role FROM bulkhead.login l));
END;
