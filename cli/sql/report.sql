SELECT json_build_object(
    'database', current_database(),
    'version', current_setting('server_version'),
    'mode', (SELECT mode FROM advice),
    'advice', (SELECT json_agg(json_build_object('mode', a.mode, 'fits', a.fits, 'reason', a.reason) ORDER BY a.n) FROM (
        SELECT 1 AS n, 'row' AS mode, (SELECT mode = 'row' FROM advice) AS fits,
            CASE WHEN NOT EXISTS (SELECT FROM direct) THEN 'no column says whose a row is'
                ELSE format('%s of %s tables know their tenant by %I, or by a foreign key that is never NULL',
                    (SELECT count(*) FROM mine), (SELECT count(*) FROM class), (SELECT name FROM wanted)) END
            || coalesce('; the functions and extensions need ' || (SELECT uses FROM advice) || ', which tenants that share a database cannot have', '') AS reason
        UNION ALL
        SELECT 2, 'schema', (SELECT mode = 'schema' FROM advice),
            CASE WHEN NOT EXISTS (SELECT FROM direct) THEN 'the tables serve one tenant as they are: each tenant gets them in a schema of its own'
                ELSE 'needs one copy of the tables for each tenant, and the rows parted by tenant' END
            || coalesce('; ' || (SELECT uses FROM advice) || ' will not work there', '')
        UNION ALL
        SELECT 3, 'database', (SELECT mode = 'database' FROM advice),
            CASE WHEN (SELECT uses FROM advice) IS NOT NULL THEN format('its session state is its own: %s work as they do now', (SELECT uses FROM advice))
                ELSE 'strongest, and about 8 MB and 300 files for each tenant: for few or large tenants' END) a),
    'tenant_column', (SELECT name FROM wanted),
    'tenants_table', (SELECT oid::regclass::text FROM list),
    'items', coalesce((SELECT json_agg(json_build_object('table', c.name::text, 'kind', c.kind, 'rows_estimate', c.row_count, 'owner', pg_get_userbyid(c.owner),
        'tenant_from', CASE c.kind WHEN 'derived' THEN c.parent::regclass::text WHEN 'reference' THEN 'no tenant: read by all' WHEN 'unclear' THEN NULL
            ELSE regexp_replace(c.old, '^t\.(.*)::text$', '\1') END,
        'foreign_keys', (SELECT count(*) FROM fk f WHERE f.relid = c.oid))
        ORDER BY array_position(ARRAY['tenants', 'direct', 'derived', 'reference', 'unclear'], c.kind), c.name::text) FROM class c), '[]'::json),
    'problems', coalesce((SELECT json_agg(json_build_object('object', b.object, 'problem', b.problem, 'fix', b.fix) ORDER BY b.object, b.problem) FROM blocker b), '[]'::json))
