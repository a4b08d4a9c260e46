-- Facts about the database. Before them come: is the extension ${installed}, is the database one tenant's ${own}, its
-- ${tenant}s, the ${login}s that act for one, the ${pool} roles.
ns AS (
    SELECT n.oid, n.nspname AS name, n.nspowner AS owner, n.nspacl AS acl, t.no
    FROM pg_namespace n LEFT JOIN tenant t ON t.schema = n.nspname AND t.mode = 'schema'
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'bulkhead')
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')),
mighty AS (SELECT oid, rolname FROM pg_roles WHERE rolsuper OR rolbypassrls),
tenant_role AS (SELECT DISTINCT t.no, t.mode, r.oid FROM tenant t JOIN pg_roles r ON r.rolname = t.role),
row_role AS (SELECT DISTINCT oid FROM tenant_role WHERE mode = 'row'),
-- With whose rights tenants that share tables read them.
reader AS (SELECT oid FROM row_role UNION SELECT role FROM pool UNION SELECT 0 WHERE EXISTS (SELECT FROM row_role)),
actor AS (
    SELECT p.role AS oid, 'a pool role' AS kind FROM pool p
    UNION SELECT t.oid, 'a tenant''s' FROM tenant_role t
        WHERE t.oid NOT IN (SELECT role FROM pool) AND NOT (SELECT yes FROM own)
    UNION SELECT l.role, 'a tenant''s login' FROM login l
        WHERE l.role NOT IN (SELECT role FROM pool) AND NOT (SELECT yes FROM own)
            AND l.role NOT IN (SELECT oid FROM tenant_role)),
grantee AS (SELECT oid, quote_ident(rolname) AS name FROM pg_roles UNION ALL SELECT 0, 'PUBLIC'),
rel AS (
    SELECT c.oid, c.oid::regclass AS name, c.relname, c.relkind AS kind, c.relowner AS owner, c.relacl AS acl,
        c.relpersistence AS persistence, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced,
        c.relreplident AS replident, c.relispartition AS partition, c.reloptions AS options, ns.oid AS ns, ns.no AS no,
        coalesce(pg_partition_root(c.oid), (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid LIMIT 1),
            c.oid)::regclass AS top,
        EXISTS (SELECT FROM pg_seclabel l WHERE l.objoid = c.oid AND l.classoid = 'pg_class'::regclass
            AND l.objsubid = 0 AND l.provider = 'bulkhead' AND l.label = 'shared') AS shared
    FROM pg_class c JOIN ns ON ns.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')),
rel_grant AS (
    SELECT r.oid, r.name, r.kind, r.no, r.owner, g.grantee, e.name AS to_whom, g.privilege_type AS right_to, g.is_grantable,
        CASE WHEN r.kind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS word, NULL::name AS col
    FROM rel r, aclexplode(r.acl) g JOIN grantee e ON e.oid = g.grantee WHERE g.grantee <> r.owner
    UNION ALL
    SELECT r.oid, r.name, r.kind, r.no, r.owner, g.grantee, e.name, g.privilege_type, g.is_grantable, 'TABLE', a.attname
    FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0, aclexplode(a.attacl) g
        JOIN grantee e ON e.oid = g.grantee WHERE g.grantee <> r.owner),
policy AS (
    SELECT p.oid, p.polrelid AS relid, p.polname AS name, p.polcmd AS cmd, p.polpermissive AS permissive,
        pg_get_expr(p.polqual, p.polrelid) AS using_text, pg_get_expr(p.polwithcheck, p.polrelid) AS check_text,
        concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS text
    FROM pg_policy p JOIN rel r ON r.oid = p.polrelid WHERE NOT r.shared),
-- The column of each table that says whose a row is: by its policy, by its parent's, by name.
policy_column AS (
    SELECT p.relid, min(d.refobjsubid) AS attnum
    FROM policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.relid AND d.refobjsubid > 0
    WHERE p.name = 'bulkhead_tenant' GROUP BY p.relid),
named AS (
    SELECT r.oid AS relid, a.attname AS name
    FROM policy_column c JOIN pg_attribute a ON a.attrelid = c.relid AND a.attnum = c.attnum
        JOIN rel r ON r.oid = c.relid
    UNION
    SELECT r.oid, g.name FROM rel r
        JOIN (VALUES (1, 'tenant_no'::name, 'any'), (2, 'tenant_id', 'plain'), (3, 'org_id', 'plain'), (4, 'organization_id', 'plain'),
            (5, 'organisation_id', 'plain'), (6, 'account_id', 'plain'), (7, 'workspace_id', 'plain'),
            (8, 'company_id', 'plain')) g(rank, name, place)
            ON g.place = 'any' OR NOT (SELECT yes FROM installed)
        JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = g.name AND a.attnum > 0 AND NOT a.attisdropped
    WHERE r.kind IN ('r', 'p') AND r.no IS NULL AND NOT r.shared AND NOT (SELECT yes FROM own)
    UNION
    SELECT i.inhrelid, n.name FROM named n JOIN pg_inherits i ON i.inhparent = n.relid),
tenant_column AS (
    SELECT DISTINCT ON (n.relid) n.relid, a.attnum, a.attname AS name, a.attnotnull AS filled
    FROM named n JOIN pg_attribute a ON a.attrelid = n.relid AND a.attname = n.name AND NOT a.attisdropped
    ORDER BY n.relid, n.relid IN (SELECT relid FROM policy_column) DESC,
        array_position(ARRAY['tenant_no', 'tenant_id', 'org_id', 'organization_id', 'organisation_id', 'account_id',
            'workspace_id', 'company_id']::name[], n.name)),
-- What tenants share, row by row; what is one tenant's.
rowtab AS (
    SELECT r.*, c.attnum, c.name AS col, c.filled FROM rel r LEFT JOIN tenant_column c ON c.relid = r.oid
    WHERE r.kind IN ('r', 'p') AND NOT r.shared AND r.no IS NULL AND (c.relid IS NOT NULL
        OR EXISTS (SELECT FROM rel_grant g WHERE g.oid = r.oid AND g.grantee IN (SELECT oid FROM reader)))),
tenanted AS (
    SELECT oid FROM rowtab UNION ALL SELECT oid FROM rel WHERE kind IN ('r', 'p') AND no IS NOT NULL),
-- What takes the place of a table's only policy when it is dropped.
bad_policy AS (
    SELECT p.*, CASE WHEN (SELECT yes FROM installed) AND t.col IS NOT NULL
        AND NOT EXISTS (SELECT FROM policy o WHERE o.relid = p.relid AND o.permissive AND o.oid <> p.oid)
        THEN format('; SELECT bulkhead.protect(%L, %L)', t.top, t.col) ELSE '' END AS instead
    FROM policy p LEFT JOIN rowtab t ON t.oid = p.relid WHERE p.permissive),
-- Each foreign key between tables that tenants share, and how it reads with the tenant in it.
fkey AS (
    SELECT k.oid, k.conname AS name, k.conrelid AS relid, k.confrelid AS refid, k.conindid AS index, a.name AS relname,
        b.name AS refname, k.confdeltype, k.confdelsetcols,
        EXISTS (SELECT FROM generate_subscripts(k.conkey, 1) s WHERE k.conkey[s] = a.attnum AND k.confkey[s] = b.attnum) AS paired,
        EXISTS (SELECT FROM pg_index x WHERE x.indrelid = k.confrelid AND x.indisunique AND x.indisvalid AND x.indimmediate
            AND x.indpred IS NULL AND x.indexprs IS NULL
            AND (SELECT array_agg(i ORDER BY i) FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) i)
                = (SELECT array_agg(DISTINCT i ORDER BY i) FROM unnest(k.confkey || b.attnum) i)) AS ready,
        format('FOREIGN KEY (%I, %s) REFERENCES %s (%I, %s)', a.col, x.cols, b.name, b.col, x.refcols)
            || CASE k.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT' ELSE '' END
            || CASE k.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
                WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', x.cols) WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', x.cols)
                ELSE '' END
            || CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END
            || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END AS text
    FROM pg_constraint k JOIN rowtab a ON a.oid = k.conrelid JOIN rowtab b ON b.oid = k.confrelid
        CROSS JOIN LATERAL (
            SELECT string_agg(quote_ident(f.attname), ', ' ORDER BY s) AS cols,
                string_agg(quote_ident(g.attname), ', ' ORDER BY s) AS refcols
            FROM generate_subscripts(k.conkey, 1) s
                JOIN pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = k.conkey[s]
                JOIN pg_attribute g ON g.attrelid = k.confrelid AND g.attnum = k.confkey[s]
            WHERE k.conkey[s] <> a.attnum OR k.confkey[s] <> b.attnum) x
    WHERE k.contype = 'f' AND k.conparentid = 0 AND a.attnum IS NOT NULL AND b.attnum IS NOT NULL),
unique_index AS (
    SELECT t.oid AS relid, t.name AS tab, t.col, t.attnum, x.indexrelid AS oid, x.indexrelid::regclass AS name, k.conname,
        k.contype, k.oid AS con,
        (SELECT string_agg(format('ALTER TABLE %s DROP CONSTRAINT %I; ', f.relname, f.name), '' ORDER BY f.name)
            FROM fkey f WHERE f.index = x.indexrelid) AS drops,
        (SELECT string_agg(format('; ALTER TABLE %s ADD CONSTRAINT %I %s', f.relname, f.name, f.text), '' ORDER BY f.name)
            FROM fkey f WHERE f.index = x.indexrelid) AS adds,
        EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.indexrelid AND f.conparentid = 0
            AND f.oid NOT IN (SELECT oid FROM fkey)) AS stuck
    FROM rowtab t JOIN pg_index x ON x.indrelid = t.oid
        JOIN pg_class i ON i.oid = x.indexrelid AND NOT i.relispartition
        LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    WHERE (x.indisunique OR x.indisexclusion) AND t.attnum IS NOT NULL
        AND NOT t.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])),
reads AS (
    SELECT w.ev_class AS viewid, d.refobjid AS relid
    FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
    WHERE w.ev_type = '1'
    UNION
    SELECT r.viewid, d.refobjid
    FROM reads r JOIN pg_rewrite w ON w.ev_class = r.relid AND w.ev_type = '1'
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class),
routine AS (
    SELECT p.oid, p.oid::regprocedure AS name, p.proowner AS owner, p.prosecdef AS definer, p.prosrc AS source,
        p.provolatile AS volatility, p.proleakproof AS leakproof, p.prorettype AS returns, ns.no, quote_ident(ns.name) AS ns,
        (SELECT substr(c, 13) FROM unnest(p.proconfig) c WHERE c LIKE 'search\_path=%') AS path,
        (SELECT coalesce(string_agg(q.name, ', ' ORDER BY m.n), '') FROM unnest(p.proconfig) c,
            regexp_matches(substr(c, 13), '("(?:[^"]|"")*"|[^",\s]+)', 'g') WITH ORDINALITY m(word, n),
            LATERAL (SELECT CASE WHEN m.word[1] LIKE '"%' THEN m.word[1] ELSE quote_ident(lower(m.word[1])) END) q(name)
            WHERE c LIKE 'search\_path=%' AND q.name NOT IN ('pg_temp', '"pg_temp"', '""')) AS rest,
        coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
    FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')),
user_trigger AS (
    SELECT t.tgname AS name, r.name AS tab, t.tgenabled AS enabled, f.name AS routine, f.definer, f.owner, t.tgisinternal AS internal,
        t.tgconstraint AS con
    FROM pg_trigger t JOIN tenanted x ON x.oid = t.tgrelid JOIN rel r ON r.oid = t.tgrelid
        LEFT JOIN routine f ON f.oid = t.tgfoid),
-- The rules. Tables that tenants share, row by row.
finding(severity, object, problem, fix) AS (
SELECT 'error', format('table %s', t.name), 'has no row level security: each tenant sees the rows of all',
    CASE WHEN (SELECT yes FROM installed) THEN format('SELECT bulkhead.protect(%L, %L)', t.top, t.col)
        ELSE 'let bulkhead adopt write what protects it' END
FROM rowtab t WHERE NOT t.secured AND t.col IS NOT NULL
UNION ALL
SELECT 'error', format('table %s', t.name), 'tenants may use it, and nothing in it says whose a row is',
    format('add an integer column tenant_no, fill it and call bulkhead.protect(%L); or, where all tenants may read all of it: '
        'SECURITY LABEL FOR bulkhead ON TABLE %s IS ''shared''', t.name, t.name)
FROM rowtab t WHERE t.col IS NULL
UNION ALL
SELECT 'error', format('table %s', t.name), format('row level security does not bind its owner %I', r.rolname),
    format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t.name)
FROM rowtab t JOIN pg_roles r ON r.oid = t.owner WHERE t.secured AND NOT t.forced
UNION ALL
SELECT 'error', format('table %s', t.name), format('its owner %I passes row level security', m.rolname),
    format('give it to a role without SUPERUSER and BYPASSRLS: ALTER TABLE %s OWNER TO …', t.name)
FROM rowtab t JOIN mighty m ON m.oid = t.owner WHERE t.secured OR (SELECT yes FROM installed)
UNION ALL
SELECT 'warning', format('table %s', t.name), 'has row level security and no policy: nobody sees a row',
    CASE WHEN (SELECT yes FROM installed) THEN format('SELECT bulkhead.protect(%L, %L)', t.top, t.col)
        ELSE 'let bulkhead adopt write its policy' END
FROM rowtab t WHERE t.secured AND t.col IS NOT NULL AND NOT EXISTS (SELECT FROM policy p WHERE p.relid = t.oid AND p.permissive)
UNION ALL
SELECT 'error', format('policy %I of %s', p.name, r.name), 'is true for every row', format('DROP POLICY %I ON %s', p.name, r.name) || p.instead
FROM bad_policy p JOIN rel r ON r.oid = p.relid WHERE 'true' IN (p.using_text, p.check_text)
UNION ALL
SELECT 'error', format('policy %I of %s', p.name, r.name), 'believes a setting, and whoever sends SQL can set it',
    format('DROP POLICY %I ON %s', p.name, r.name) || p.instead
FROM bad_policy p JOIN rel r ON r.oid = p.relid
WHERE (p.text ~ 'current_setting' OR EXISTS (SELECT FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid
    WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
        AND f.pronamespace <> 'pg_catalog'::regnamespace AND f.prosrc ~ 'current_setting'))
UNION ALL
SELECT 'warning', format('policy %I of %s', p.name, r.name), 'has no WITH CHECK: new rows are judged by USING, whatever it becomes',
    format('ALTER POLICY %I ON %s WITH CHECK (%s)', p.name, r.name, p.using_text)
FROM policy p JOIN rel r ON r.oid = p.relid
WHERE p.permissive AND p.cmd IN ('*', 'w') AND p.check_text IS NULL AND p.using_text <> 'true' AND p.text !~ 'current_setting'
UNION ALL
SELECT 'error', format('policy %I of %s', p.name, r.name), 'lets further rows through beside bulkhead_tenant',
    format('DROP POLICY %I ON %s', p.name, r.name)
FROM policy p JOIN rel r ON r.oid = p.relid
WHERE p.permissive AND p.name <> 'bulkhead_tenant' AND p.relid IN (SELECT relid FROM policy WHERE name = 'bulkhead_tenant')
    AND p.text !~ 'current_setting' AND coalesce(p.using_text, '') <> 'true' AND coalesce(p.check_text, '') <> 'true'
UNION ALL
SELECT 'error', format('policy %I of %s', p.name, t.name), 'is not as protect() made it',
    format('SELECT bulkhead.protect(%L, %L)', t.top, t.col)
FROM policy p JOIN rowtab t ON t.oid = p.relid
WHERE p.name = 'bulkhead_tenant' AND p.using_text <> 'true' AND p.check_text IS NOT NULL
    AND format('(%I = bulkhead.tenant_no())', t.col) <> ANY (ARRAY[p.using_text, p.check_text])
UNION ALL
SELECT 'warning', format('table %s', t.name), format('its column %I may be NULL: such rows are nobody''s', t.col),
    format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', t.name, t.col)
FROM rowtab t WHERE t.col IS NOT NULL AND NOT t.filled AND t.secured
UNION ALL
SELECT 'warning', format('table %s', t.name), format('its column %I has no default: every INSERT must name the tenant', t.col),
    format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT bulkhead.tenant_no()', t.name, t.col)
FROM rowtab t JOIN policy_column p ON p.relid = t.oid
WHERE NOT EXISTS (SELECT FROM pg_attrdef d WHERE d.adrelid = t.oid AND d.adnum = t.attnum
    AND pg_get_expr(d.adbin, d.adrelid) = 'bulkhead.tenant_no()')
UNION ALL
SELECT 'error', format('table %s', c.name), format('reading %s shows its rows without its policy', p.name),
    format('ALTER TABLE %s NO INHERIT %s', c.name, p.name)
FROM rowtab c JOIN pg_inherits i ON i.inhrelid = c.oid JOIN rel p ON p.oid = i.inhparent
WHERE c.secured AND NOT c.partition AND p.oid NOT IN (SELECT oid FROM rowtab WHERE col IS NOT NULL)
UNION ALL
-- Keys and indexes.
SELECT 'error', format('index %s', u.name), format('is unique across tenants: its column %I is missing in it', u.col),
    CASE WHEN u.stuck THEN 'drop the foreign keys that use it, of tables without a tenant column, and ask again'
        ELSE coalesce(u.drops, '') || CASE WHEN u.con IS NULL THEN format('DROP INDEX %s; %s', u.name,
                regexp_replace(pg_get_indexdef(u.oid), '^(CREATE (?:UNIQUE )?INDEX (?:"(?:[^"]|"")*"|[^" .]+) ON (?:ONLY )?(?:(?:"(?:[^"]|"")*"|[^" .]+)\.)?(?:"(?:[^"]|"")*"|[^" .]+) USING \w+ \()', format('\1%s, ', replace(quote_ident(u.col), '\', '\\'))))
            ELSE format('ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s %s', u.tab, quote_ident(u.conname), quote_ident(u.conname),
                regexp_replace(pg_get_constraintdef(u.con), '\(', format(CASE WHEN u.contype = 'x' THEN '(%s WITH =, ' ELSE '(%s, ' END, replace(quote_ident(u.col), '\', '\\'))))
            END || coalesce(u.adds, '') END
FROM unique_index u
UNION ALL
SELECT 'warning', format('table %s', t.name), format('no index begins with %I: each tenant''s query reads the rows of all', t.col),
    format('CREATE INDEX ON %s (%I)', t.name, t.col)
FROM rowtab t WHERE t.attnum IS NOT NULL AND NOT t.partition AND NOT EXISTS (SELECT FROM pg_index x
    WHERE x.indrelid = t.oid AND x.indisvalid AND x.indpred IS NULL AND x.indkey[0] = t.attnum)
UNION ALL
SELECT 'info', format('index %s', x.indexrelid::regclass), format('does not begin with %I: it cannot serve conditions that are not leakproof', t.col),
    format('DROP INDEX %s; %s', x.indexrelid::regclass,
        regexp_replace(pg_get_indexdef(x.indexrelid), '^(CREATE (?:UNIQUE )?INDEX (?:"(?:[^"]|"")*"|[^" .]+) ON (?:ONLY )?(?:(?:"(?:[^"]|"")*"|[^" .]+)\.)?(?:"(?:[^"]|"")*"|[^" .]+) USING \w+ \()', format('\1%s, ', replace(quote_ident(t.col), '\', '\\'))))
FROM rowtab t JOIN pg_index x ON x.indrelid = t.oid
    JOIN pg_class i ON i.oid = x.indexrelid AND NOT i.relispartition
    JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree'
WHERE t.secured AND t.attnum IS NOT NULL AND NOT x.indisunique AND NOT t.attnum = ANY (x.indkey::int2[])
UNION ALL
SELECT 'error', format('foreign key %I of %s', f.name, f.relname), format('can point at another tenant''s row of %s', f.refname),
    CASE WHEN NOT f.ready THEN format('mend the index %s: that makes the foreign key anew too', f.index::regclass)
        ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', f.relname, f.name, f.name, f.text) END
FROM fkey f WHERE NOT f.paired
UNION ALL
SELECT 'warning', format('foreign key %I of %s', f.name, f.relname), 'a DELETE would set its tenant to NULL, and fail',
    format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', f.relname, f.name, f.name, f.text)
FROM fkey f JOIN rowtab t ON t.oid = f.relid
WHERE f.paired AND f.confdeltype IN ('n', 'd') AND (f.confdelsetcols IS NULL OR t.attnum = ANY (f.confdelsetcols))
UNION ALL
SELECT 'error', format('foreign key %I of %s', k.conname, a.name), format('a table of all tenants points at a tenant''s row of %s', b.name),
    format('ALTER TABLE %s DROP CONSTRAINT %I', a.name, k.conname)
FROM pg_constraint k JOIN rel a ON a.oid = k.conrelid JOIN rowtab b ON b.oid = k.confrelid
WHERE k.contype = 'f' AND k.conparentid = 0 AND a.shared
UNION ALL
SELECT 'error', format('foreign key %I of %s', k.conname, a.name), format('points from tenant %s to tenant %s', a.no, b.no),
    format('ALTER TABLE %s DROP CONSTRAINT %I', a.name, k.conname)
FROM pg_constraint k JOIN rel a ON a.oid = k.conrelid JOIN rel b ON b.oid = k.confrelid
WHERE k.contype = 'f' AND k.conparentid = 0 AND a.no <> b.no
UNION ALL
SELECT 'warning', format('foreign key %I of %s', k.conname, r.name), 'was never checked for the rows that were there before it',
    format('ALTER TABLE %s VALIDATE CONSTRAINT %I', r.name, k.conname)
FROM pg_constraint k JOIN rel r ON r.oid = k.conrelid
WHERE k.contype = 'f' AND NOT k.convalidated AND r.oid IN (SELECT oid FROM tenanted)
UNION ALL
SELECT 'warning', format('column %I of %s', a.attname, t.name), 'is numbered by one sequence for all tenants: the gaps tell how much the others write',
    'use uuid keys (DEFAULT gen_random_uuid()), or accept that tenants see it'
FROM rowtab t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
WHERE t.secured AND NOT t.partition AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\(')
UNION ALL
SELECT CASE g.right_to WHEN 'UPDATE' THEN 'error' ELSE 'warning' END, format('sequence %s', g.name),
    format(CASE g.right_to WHEN 'UPDATE' THEN '%s may set it, and so make others'' inserts fail' ELSE '%s may read how far it is: how much all tenants write' END, g.to_whom),
    format('REVOKE %s ON SEQUENCE %s FROM %s', g.right_to, g.name, g.to_whom)
FROM rel_grant g
WHERE g.kind = 'S' AND g.no IS NULL AND g.grantee <> 0 AND g.right_to IN ('UPDATE', 'SELECT')
    AND g.grantee NOT IN (SELECT oid FROM mighty)
    AND (g.grantee IN (SELECT oid FROM actor) OR EXISTS (SELECT FROM pg_depend d JOIN rowtab t ON t.oid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = g.oid AND d.deptype IN ('a', 'i')))
UNION ALL
SELECT 'warning', format('table %s', r.name), 'has no replica identity: once it is published, UPDATE and DELETE fail, and it cannot move',
    format('ALTER TABLE %s REPLICA IDENTITY FULL', r.name)
FROM rel r WHERE r.oid IN (SELECT oid FROM tenanted) AND r.kind = 'r' AND (r.replident = 'n' OR (r.replident = 'd'
    AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = r.oid AND x.indisprimary)))
UNION ALL
SELECT 'warning', format('table %s', r.name), 'is unlogged: a crash empties it, and a move copies no row', format('ALTER TABLE %s SET LOGGED', r.name)
FROM rel r WHERE r.oid IN (SELECT oid FROM tenanted) AND r.persistence = 'u'
UNION ALL
-- Views, functions, triggers, rules: code that runs with other rights.
SELECT CASE WHEN v.owner IN (SELECT oid FROM mighty) THEN 'error' ELSE 'warning' END, format('view %s', v.name),
    CASE WHEN v.owner IN (SELECT oid FROM mighty) THEN 'reads tenants'' tables as its owner, whom row level security does not bind'
        ELSE 'reads tenants'' tables as its owner, not as its reader' END,
    format('ALTER VIEW %s SET (security_invoker = true)', v.name)
FROM rel v WHERE v.kind = 'v' AND NOT coalesce(v.options && ARRAY['security_invoker=true', 'security_invoker=on'], false)
    AND (EXISTS (SELECT FROM reads d JOIN rowtab t ON t.oid = d.relid WHERE d.viewid = v.oid)
        OR (v.owner IN (SELECT oid FROM mighty) AND EXISTS (SELECT FROM reads d JOIN tenanted t ON t.oid = d.relid WHERE d.viewid = v.oid)))
UNION ALL
SELECT DISTINCT 'error', format('%s %s', CASE g.kind WHEN 'm' THEN 'materialized view' ELSE 'view' END, g.name),
    format('holds rows of tenants, and %s may read it', g.to_whom), format('REVOKE ALL ON %s FROM %s', g.name, g.to_whom)
FROM rel_grant g JOIN reads d ON d.viewid = g.oid JOIN rel t ON t.oid = d.relid AND t.oid IN (SELECT oid FROM tenanted)
WHERE (g.kind = 'm' OR t.no IS NOT NULL) AND g.kind IN ('v', 'm') AND g.no IS DISTINCT FROM coalesce(t.no, -1)
    AND g.grantee NOT IN (SELECT oid FROM mighty)
UNION ALL
SELECT DISTINCT 'error', format('view %s', g.name), format('shows %s, which is neither a tenant''s nor shared, and %s may read it', t.name, g.to_whom),
    format('REVOKE ALL ON %s FROM %s', g.name, g.to_whom)
FROM rel_grant g JOIN rel v ON v.oid = g.oid JOIN reads d ON d.viewid = g.oid JOIN rel t ON t.oid = d.relid AND t.kind IN ('r', 'p')
WHERE g.kind IN ('v', 'm') AND g.grantee IN (SELECT oid FROM reader) AND NOT t.shared AND t.no IS NULL
    AND NOT coalesce(v.options && ARRAY['security_invoker=true', 'security_invoker=on'], false)
    AND t.oid NOT IN (SELECT oid FROM rowtab WHERE col IS NOT NULL)
UNION ALL
SELECT DISTINCT 'error', format('foreign table %s', g.name), format('has no row level security, and %s may use it', g.to_whom),
    format('REVOKE ALL ON %s FROM %s', g.name, g.to_whom)
FROM rel_grant g WHERE g.kind = 'f' AND g.grantee IN (SELECT oid FROM actor UNION SELECT 0)
UNION ALL
SELECT 'error', format('function %s', f.name), format('runs as %I, whom nothing binds, and others may call it', m.rolname),
    format('ALTER ROUTINE %s SECURITY INVOKER', f.name)
FROM routine f JOIN mighty m ON m.oid = f.owner
WHERE f.definer AND f.returns NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    AND EXISTS (SELECT FROM aclexplode(f.acl) g WHERE g.grantee <> f.owner AND g.grantee NOT IN (SELECT oid FROM mighty))
UNION ALL
SELECT 'error', format('function %s', f.name), 'runs as its owner with a search_path that its caller chooses',
    format('ALTER ROUTINE %s SET search_path = %s, pg_temp', f.name, f.ns)
FROM routine f WHERE f.definer AND f.path IS NULL
UNION ALL
SELECT 'warning', format('function %s', f.name), 'runs as its owner, and temporary objects come first in its search_path',
    format('ALTER ROUTINE %s SET search_path = %s', f.name, concat_ws(', ', nullif(f.rest, ''), 'pg_temp'))
FROM routine f WHERE f.definer AND f.path !~ 'pg_temp"?\s*$'
UNION ALL
SELECT 'error', format('function %s', f.oid::regprocedure), 'is IMMUTABLE and asks for the tenant: a plan made for one serves the next',
    format('ALTER FUNCTION %s STABLE', f.oid::regprocedure)
FROM pg_proc f WHERE f.provolatile = 'i' AND (f.pronamespace IN (SELECT oid FROM ns) OR f.pronamespace = to_regnamespace('bulkhead'))
    AND (f.prosrc ~ 'tenant_no|tenant_id|current_setting' OR (f.pronamespace = to_regnamespace('bulkhead') AND f.proname ~ '^tenant_(no|id)$')
        OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
            AND d.refobjid IN (to_regprocedure('bulkhead.tenant_no()'), to_regprocedure('bulkhead.tenant_id()'))))
UNION ALL
SELECT 'error', format('function %s', f.name), 'is LEAKPROOF: it sees rows before the policy has judged them', format('ALTER FUNCTION %s NOT LEAKPROOF', f.name)
FROM routine f WHERE f.leakproof
UNION ALL
SELECT 'error', format('trigger %I of %s', t.name, t.tab), format('runs %s as %I, whom nothing binds, on tenants'' rows', t.routine, m.rolname),
    format('ALTER FUNCTION %s SECURITY INVOKER', t.routine)
FROM user_trigger t JOIN mighty m ON m.oid = t.owner WHERE t.definer AND NOT t.internal
UNION ALL
SELECT 'warning', format('trigger %I of %s', t.name, t.tab), 'fires for replicated rows too, with the rights of the replication',
    format('ALTER TABLE %s ENABLE TRIGGER %I', t.tab, t.name)
FROM user_trigger t WHERE t.enabled IN ('A', 'R') AND NOT t.internal
UNION ALL
SELECT DISTINCT 'warning', format('foreign key %I of %s', k.conname, t.tab), 'is not checked: its triggers are disabled',
    format('ALTER TABLE %s ENABLE TRIGGER ALL', t.tab)
FROM user_trigger t JOIN pg_constraint k ON k.oid = t.con AND k.contype = 'f' WHERE t.internal AND t.enabled = 'D'
UNION ALL
SELECT 'warning', format('rule %I of %s', w.rulename, r.name), 'rewrites what tenants write, with the rights of the table''s owner', format('DROP RULE %I ON %s', w.rulename, r.name)
FROM pg_rewrite w JOIN rel r ON r.oid = w.ev_class WHERE w.ev_type <> '1' AND r.oid IN (SELECT oid FROM tenanted)
UNION ALL
SELECT 'error', format('event trigger %I', e.evtname), format('runs a function of %I, who is no superuser, in every statement of an administrator', o.rolname),
    format('ALTER EVENT TRIGGER %I DISABLE', e.evtname)
FROM pg_event_trigger e JOIN pg_proc f ON f.oid = e.evtfoid JOIN pg_roles o ON o.oid = f.proowner WHERE e.evtenabled <> 'D' AND NOT o.rolsuper
UNION ALL
-- Rights.
SELECT 'error', format('table %s', g.name), format('%s has %s: row level security does not cover it', g.to_whom, g.right_to),
    format('REVOKE %s%s ON %s FROM %s', g.right_to, coalesce(' (' || quote_ident(g.col) || ')', ''), g.name, g.to_whom)
FROM rel_grant g WHERE g.right_to IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN') AND g.grantee <> 0
    AND g.grantee NOT IN (SELECT oid FROM mighty) AND g.oid IN (SELECT oid FROM tenanted)
UNION ALL
SELECT DISTINCT CASE WHEN g.oid IN (SELECT oid FROM tenanted) THEN 'error' ELSE 'warning' END, format('%s %s', lower(g.word), g.name),
    'every login has rights on it', format('REVOKE ALL%s ON %s %s FROM PUBLIC', coalesce(' (' || quote_ident(g.col) || ')', ''), g.word, g.name)
FROM rel_grant g WHERE g.grantee = 0 AND g.kind <> 'f' AND NOT (g.kind IN ('v', 'm') AND EXISTS (SELECT FROM reads d JOIN tenanted t ON t.oid = d.relid WHERE d.viewid = g.oid))
UNION ALL
SELECT DISTINCT 'warning', format('%s %s', lower(g.word), g.name), format('%s may grant its right %s on', g.to_whom, g.right_to),
    format('REVOKE GRANT OPTION FOR %s ON %s %s FROM %s', g.right_to, g.word, g.name, g.to_whom)
FROM rel_grant g WHERE g.is_grantable AND g.col IS NULL AND g.grantee IN (SELECT oid FROM actor)
UNION ALL
SELECT DISTINCT 'error', format('table %s', g.name), format('all tenants read it, and %s may change it', g.to_whom), format('REVOKE %s ON %s FROM %s', g.right_to, g.name, g.to_whom)
FROM rel_grant g JOIN rel r ON r.oid = g.oid AND r.shared
WHERE g.right_to IN ('INSERT', 'UPDATE', 'DELETE') AND g.grantee IN (SELECT oid FROM actor) AND g.col IS NULL
UNION ALL
SELECT DISTINCT 'error', format('%s %s', lower(g.word), g.name), format('is tenant %s''s, and %s has rights on it', g.no, g.to_whom),
    format('REVOKE ALL ON %s %s FROM %s', g.word, g.name, g.to_whom)
FROM rel_grant g WHERE g.no IS NOT NULL AND g.grantee <> 0 AND g.col IS NULL AND g.grantee NOT IN (SELECT oid FROM mighty)
    AND NOT EXISTS (SELECT FROM tenant_role t WHERE t.no = g.no AND t.oid = g.grantee)
    AND NOT EXISTS (SELECT FROM ns n WHERE n.no = g.no AND n.owner = g.grantee)
UNION ALL
SELECT 'warning', format('table %s', r.name), format('is in tenant %s''s schema, and not its owner''s', r.no), format('ALTER TABLE %s OWNER TO %I', r.name, o.rolname)
FROM rel r JOIN ns n ON n.oid = r.ns JOIN pg_roles o ON o.oid = n.owner WHERE r.no IS NOT NULL AND r.kind IN ('r', 'p', 'v', 'm', 'f') AND r.owner <> n.owner
UNION ALL
SELECT DISTINCT 'error', format('schema %I', n.name), format('is tenant %s''s, and %s has rights on it', n.no, e.name), format('REVOKE ALL ON SCHEMA %I FROM %s', n.name, e.name)
FROM ns n, aclexplode(n.acl) g JOIN grantee e ON e.oid = g.grantee
WHERE n.no IS NOT NULL AND g.grantee <> n.owner AND g.grantee NOT IN (SELECT oid FROM mighty)
    AND NOT EXISTS (SELECT FROM tenant_role t WHERE t.no = n.no AND t.oid = g.grantee)
UNION ALL
SELECT 'error', format('schema %I', n.name), format('%s may create objects in it, and so shadow others''', e.name), format('REVOKE CREATE ON SCHEMA %I FROM %s', n.name, e.name)
FROM ns n, aclexplode(n.acl) g JOIN grantee e ON e.oid = g.grantee
WHERE g.privilege_type = 'CREATE' AND g.grantee <> n.owner AND (g.grantee = 0 OR g.grantee IN (SELECT oid FROM actor)) AND (n.no IS NULL OR g.grantee <> 0)
UNION ALL
SELECT 'warning', format('function %s', f.name), format('is tenant %s''s, and every login may call it', f.no), format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f.name)
FROM routine f, aclexplode(f.acl) g WHERE f.no IS NOT NULL AND g.grantee = 0
UNION ALL
SELECT 'warning', format('database %I', d.datname), format('%s has %s', e.name, string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type)),
    format('REVOKE ALL ON DATABASE %I FROM %s', d.datname, e.name) || CASE WHEN e.oid = 0 THEN '' ELSE format('; GRANT CONNECT ON DATABASE %I TO %s', d.datname, e.name) END
FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g JOIN grantee e ON e.oid = g.grantee
WHERE d.datname = current_database() AND (g.grantee = 0 OR (g.grantee IN (SELECT oid FROM actor) AND g.privilege_type <> 'CONNECT'))
GROUP BY d.datname, e.name, e.oid
UNION ALL
SELECT 'warning', format('default privileges of %I%s', o.rolname, coalesce(' in schema ' || quote_ident(n.nspname), '')), format('give %s on new %s to %s', x.rights, k.word, e.name),
    format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON %s FROM %s', o.rolname, coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), x.rights, k.word, e.name)
FROM pg_default_acl a JOIN pg_roles o ON o.oid = a.defaclrole LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
    JOIN (VALUES ('r', 'TABLES'), ('S', 'SEQUENCES'), ('n', 'SCHEMAS')) k(kind, word) ON k.kind = a.defaclobjtype
    CROSS JOIN LATERAL (SELECT g.grantee, string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type) AS rights FROM aclexplode(a.defaclacl) g
        WHERE g.grantee <> a.defaclrole AND (g.grantee = 0 OR (g.grantee IN (SELECT oid FROM actor) AND (g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER')
            OR (a.defaclobjtype = 'S' AND g.privilege_type = 'UPDATE' AND g.grantee IN (SELECT oid FROM row_role))))) GROUP BY g.grantee) x
    JOIN grantee e ON e.oid = x.grantee
UNION ALL
-- Roles.
SELECT 'error', format('role %I', r.rolname), format('is %s, and has %s', a.kind, x.attribute), format('ALTER ROLE %I NO%s', r.rolname, x.attribute)
FROM actor a JOIN pg_roles r ON r.oid = a.oid
    JOIN LATERAL (VALUES ('SUPERUSER', r.rolsuper), ('BYPASSRLS', r.rolbypassrls), ('REPLICATION', r.rolreplication),
        ('CREATEROLE', r.rolcreaterole), ('CREATEDB', r.rolcreatedb)) x(attribute, has) ON x.has
UNION ALL
SELECT 'error', format('role %I', r.rolname), format('is %s, and a member of %I', a.kind, g.rolname), format('REVOKE %I FROM %I', g.rolname, r.rolname)
FROM actor a JOIN pg_roles r ON r.oid = a.oid JOIN pg_auth_members m ON m.member = a.oid JOIN pg_roles g ON g.oid = m.roleid
UNION ALL
SELECT 'error', format('table %s', r.name), format('belongs to %I, which is %s and so may lift its protection', o.rolname, a.kind),
    format('ALTER TABLE %s OWNER TO %I', r.name, w.rolname)
FROM rel r JOIN actor a ON a.oid = r.owner JOIN pg_roles o ON o.oid = r.owner JOIN ns n ON n.oid = r.ns
    JOIN pg_roles w ON w.oid = CASE WHEN n.owner IN (SELECT oid FROM actor) THEN (SELECT datdba FROM pg_database WHERE datname = current_database()) ELSE n.owner END
WHERE r.kind IN ('r', 'p', 'v', 'm', 'f') AND (r.no IS NULL OR r.owner <> n.owner) AND NOT (r.no IS NOT NULL AND r.owner <> n.owner)
UNION ALL
SELECT 'error', format('function %s', f.name), format('belongs to %I, which is %s and so may change what others call', o.rolname, a.kind),
    format('ALTER ROUTINE %s OWNER TO %I', f.name, w.rolname)
FROM routine f JOIN actor a ON a.oid = f.owner JOIN pg_roles o ON o.oid = f.owner JOIN pg_proc p ON p.oid = f.oid JOIN ns n ON n.oid = p.pronamespace
    JOIN pg_roles w ON w.oid = n.owner AND n.owner <> f.owner
UNION ALL
SELECT 'error', format('schema %I', n.name), format('belongs to %I, which is %s', o.rolname, a.kind), format('ALTER SCHEMA %I OWNER TO %I', n.name, w.rolname)
FROM ns n JOIN actor a ON a.oid = n.owner JOIN pg_roles o ON o.oid = n.owner
    JOIN pg_database d ON d.datname = current_database() JOIN pg_roles w ON w.oid = d.datdba
UNION ALL
SELECT 'error', format('role %I', e.rolname), format('is %s, and has %s on %s of the system', a.kind, g.privilege_type, c.oid::regclass),
    format('REVOKE %s ON %s FROM %I', g.privilege_type, c.oid::regclass, e.rolname)
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) g JOIN actor a ON a.oid = g.grantee JOIN pg_roles e ON e.oid = a.oid
WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, to_regnamespace('bulkhead')) AND c.relacl IS NOT NULL
UNION ALL
SELECT 'error', format('role %I', e.rolname), format('is %s, and may call %s of the system', a.kind, f.oid::regprocedure),
    format('REVOKE EXECUTE ON ROUTINE %s FROM %I', f.oid::regprocedure, e.rolname)
FROM pg_proc f CROSS JOIN LATERAL aclexplode(f.proacl) g JOIN actor a ON a.oid = g.grantee JOIN pg_roles e ON e.oid = a.oid
WHERE f.pronamespace IN ('pg_catalog'::regnamespace, to_regnamespace('bulkhead')) AND f.proacl IS NOT NULL
UNION ALL
SELECT 'warning', format('tablespace %I', s.spcname), format('%s may fill it', e.name), format('REVOKE CREATE ON TABLESPACE %I FROM %s', s.spcname, e.name)
FROM pg_tablespace s, aclexplode(s.spcacl) g JOIN grantee e ON e.oid = g.grantee WHERE g.grantee = 0 OR g.grantee IN (SELECT oid FROM actor)
UNION ALL
SELECT 'error', format('parameter %s', p.parname), format('%s may set it', e.name), format('REVOKE %s ON PARAMETER %s FROM %s', g.privilege_type, p.parname, e.name)
FROM pg_parameter_acl p, aclexplode(p.paracl) g JOIN grantee e ON e.oid = g.grantee
WHERE g.grantee IN (SELECT oid FROM actor) OR g.grantee = 0
UNION ALL
SELECT 'error', format('setting %s of %s', s.name, s.place), 'holds what looks like a secret, and every login may read it', format('ALTER %s RESET %s', s.place, s.name)
FROM (SELECT split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value,
        CASE WHEN d.setrole = 0 AND d.setdatabase = 0 THEN 'ROLE ALL' WHEN d.setrole = 0 THEN format('DATABASE %I', b.datname)
            ELSE format('ROLE %I%s', r.rolname, coalesce(' IN DATABASE ' || quote_ident(b.datname), '')) END AS place
    FROM pg_db_role_setting d LEFT JOIN pg_roles r ON r.oid = d.setrole LEFT JOIN pg_database b ON b.oid = d.setdatabase, unnest(d.setconfig) c
    WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))) s
WHERE s.name !~ '^bulkhead\.' AND (s.name ~* 'passw|secret|token|api_?key|private|credential|jwt'
    OR s.value ~* '://[^/@]*:[^/@]+@|password *=|BEGIN [A-Z ]*PRIVATE KEY|^eyJ')
UNION ALL
-- Doors to elsewhere.
SELECT 'warning', format('extension %I', e.extname), 'opens files or network connections of the server', format('DROP EXTENSION %I', e.extname)
FROM pg_extension e WHERE e.extname IN ('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'http', 'pg_net', 'pgsql_http', 'plpython3u', 'plpython2u',
    'plperlu', 'pltclu', 'plsh', 'pljava', 'plr', 'pg_cron', 'pg_background', 'oracle_fdw', 'mysql_fdw', 'tds_fdw', 'mongo_fdw', 'redis_fdw', 'multicorn',
    'ogr_fdw', 'aws_s3', 'aws_lambda', 'pageinspect', 'pg_visibility', 'lo')
UNION ALL
SELECT 'error', format('foreign server %I', s.srvname), format('%s may use it to reach another server', e.name), format('REVOKE USAGE ON FOREIGN SERVER %I FROM %s', s.srvname, e.name)
FROM pg_foreign_server s, aclexplode(s.srvacl) g JOIN grantee e ON e.oid = g.grantee WHERE g.grantee = 0 OR g.grantee IN (SELECT oid FROM actor)
UNION ALL
SELECT 'error', format('user mapping for PUBLIC on %I', u.srvname), 'every login reaches that server with one identity', format('DROP USER MAPPING FOR PUBLIC SERVER %I', u.srvname)
FROM pg_user_mappings u WHERE u.umuser = 0
UNION ALL
SELECT DISTINCT 'warning', format('publication %I', p.pubname), 'sends rows of all tenants: row level security does not filter it', format('DROP PUBLICATION %I', p.pubname)
FROM pg_publication p WHERE p.pubname !~ '^bulkhead_' AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_tables t JOIN rel r ON r.relname = t.tablename
    JOIN ns n ON n.oid = r.ns AND n.name = t.schemaname WHERE t.pubname = p.pubname AND r.oid IN (SELECT oid FROM tenanted)))
UNION ALL
SELECT 'warning', format('subscription %I', s.subname), 'applies changes as a superuser, and triggers of tenants'' tables run with it', format('ALTER SUBSCRIPTION %I DISABLE', s.subname)
FROM pg_subscription s JOIN pg_roles r ON r.oid = s.subowner
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.subenabled AND r.rolsuper AND s.subname !~ '^bulkhead_'
UNION ALL
SELECT 'warning', 'large objects', format('there are %s: they know no tenant and no row level security', count(*)), 'keep such data in bytea columns or in an object store'
FROM pg_largeobject_metadata HAVING count(*) > 0
UNION ALL
SELECT 'error', 'lo_compat_privileges', 'is on: every login may read and change every large object', 'take it out of postgresql.conf and ALTER SYSTEM, ROLE and DATABASE settings'
WHERE current_setting('lo_compat_privileges') = 'on'
UNION ALL
SELECT 'warning', format('view %s', c.oid::regclass), 'tenants that share a role read each other''s statements in it', format('REVOKE ALL ON %s FROM PUBLIC', c.oid::regclass)
FROM pg_class c, aclexplode(c.relacl) g WHERE c.relname IN ('pg_stat_statements') AND c.relkind = 'v' AND g.grantee = 0
UNION ALL
SELECT 'warning', format('function %s', f.oid::regprocedure), 'tenants that share a role read each other''s statements by it', format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.oid::regprocedure)
FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) g WHERE f.proname = 'pg_stat_statements' AND g.grantee = 0)
-- In a tenant's own database all is the tenant's, but for what reaches the server.
SELECT f.severity, f.object, f.problem, f.fix FROM finding f
WHERE NOT (SELECT yes FROM own) OR f.problem ~ 'whom nothing binds' OR f.object ~ '^(role|setting|parameter|event trigger|extension) '
ORDER BY 1, 2, 3
