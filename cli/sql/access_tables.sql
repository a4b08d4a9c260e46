SELECT coalesce(json_agg(json_build_object(
    'table', c.oid::regclass::text,
    'kind', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
    'owner', pg_get_userbyid(c.relowner),
    'shared', EXISTS (SELECT FROM pg_seclabel l WHERE l.objoid = c.oid AND l.classoid = 'pg_class'::regclass AND l.objsubid = 0
        AND l.provider = 'bulkhead' AND l.label = 'shared'),
    'own_schema', n.nspname = $3,
    'row_security', CASE WHEN NOT c.relrowsecurity THEN 'off' WHEN c.relforcerowsecurity THEN 'forced' ELSE 'on' END,
    'privileges', (SELECT coalesce(json_agg(p), '[]') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
        WHERE has_schema_privilege($2, n.oid, 'USAGE') AND has_table_privilege($2, c.oid, p)),
    'policies', (SELECT coalesce(json_agg(json_build_object('name', p.polname, 'using', pg_get_expr(p.polqual, p.polrelid),
            'check', pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname), '[]') FROM pg_policy p WHERE p.polrelid = c.oid))
    ORDER BY c.oid::regclass::text), '[]')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', 'bulkhead') AND NOT c.relispartition
    AND c.oid IN (SELECT l.relation FROM pg_locks l WHERE l.pid = $1::int AND l.locktype = 'relation'
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
