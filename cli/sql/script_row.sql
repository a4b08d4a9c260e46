, names AS (
    SELECT left('bh_rows_' || current_database(), 63) AS rows_role,
        coalesce((SELECT r.rolname FROM mine m JOIN pg_roles r ON r.oid = m.owner WHERE m.owner NOT IN (SELECT oid FROM mighty)
            GROUP BY r.rolname ORDER BY count(*) DESC, r.rolname LIMIT 1), left(current_database(), 57) || '_owner') AS owner,
        (SELECT m.nsname FROM mine m GROUP BY m.nsname ORDER BY count(*) DESC, m.nsname LIMIT 1) AS schema,
        (SELECT a.attname FROM list l JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) OR a.atttypid IN (SELECT oid FROM pg_type WHERE typname = 'citext')
            ORDER BY array_position(ARRAY['slug', 'subdomain', 'handle', 'code', 'name']::name[], a.attname) NULLS LAST, a.attnum LIMIT 1) AS slug),
schema_of AS (SELECT DISTINCT nsname FROM class WHERE kind <> 'unclear'),
unique_index AS (
    SELECT l.oid::regclass AS tab, x.indexrelid AS oid, x.indexrelid::regclass AS name, k.oid AS con, k.conname, k.contype
    FROM mine m JOIN leaf l ON l.root = m.oid JOIN pg_index x ON x.indrelid = l.oid JOIN pg_class i ON i.oid = x.indexrelid AND NOT i.relispartition
        LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = l.oid AND k.contype IN ('p', 'u', 'x')
    WHERE (x.indisunique OR x.indisexclusion) AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = l.oid AND a.attname = 'tenant_no'
        AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1]))),
plain_index AS (
    SELECT l.kind AS relkind, i.relname, x.indexrelid::regclass AS name, pg_get_indexdef(x.indexrelid) AS text
    FROM mine m JOIN leaf l ON l.root = m.oid JOIN pg_index x ON x.indrelid = l.oid JOIN pg_class i ON i.oid = x.indexrelid AND NOT i.relispartition
        JOIN pg_am a ON a.oid = i.relam AND a.amname = 'btree'
    WHERE NOT x.indisunique AND NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = l.oid AND t.attname = 'tenant_no' AND t.attnum = ANY (x.indkey::int2[]))),
inner_fk AS (
    SELECT f.name, f.relid::regclass AS tab, m.relkind,
        format('FOREIGN KEY (tenant_no, %s) REFERENCES %s (tenant_no, %s)', f.cols, f.refid::regclass, f.refcols)
            || CASE f.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT' ELSE '' END
            || CASE f.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT' WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', f.cols)
                WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', f.cols) ELSE '' END
            || CASE WHEN f.condeferrable THEN ' DEFERRABLE' ELSE '' END || CASE WHEN f.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END AS text
    FROM fk f JOIN mine m ON m.oid = f.relid WHERE f.refid IN (SELECT oid FROM mine)
        AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.relid AND a.attname = 'tenant_no' AND a.attnum = ANY (f.conkey))),
reads AS (
    SELECT w.ev_class AS viewid, d.refobjid AS relid FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class WHERE w.ev_type = '1'
    UNION
    SELECT r.viewid, d.refobjid FROM reads r JOIN pg_rewrite w ON w.ev_class = r.relid AND w.ev_type = '1' JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass
        AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class),
tenant_view AS (SELECT v.* FROM view v WHERE EXISTS (SELECT FROM reads r JOIN mine m ON m.oid = r.relid WHERE r.viewid = v.oid)),
sequence AS (
    SELECT s.oid, s.oid::regclass AS name, d.deptype FROM pg_class s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
        JOIN mine m ON m.oid = d.refobjid WHERE s.relkind = 'S'),
theirs AS (
    SELECT oid FROM class WHERE kind <> 'unclear' UNION SELECT oid FROM tenant_view UNION SELECT l.oid FROM leaf l JOIN mine m ON m.oid = l.root
    UNION SELECT oid FROM sequence),
granted AS (
    SELECT c.oid, c.oid::regclass AS name, c.relkind, g.grantee, CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS who,
        g.privilege_type AS what, '' AS col
    FROM pg_class c, aclexplode(c.relacl) g WHERE g.grantee <> c.relowner AND c.oid IN (SELECT oid FROM theirs)
    UNION ALL
    SELECT c.oid, c.oid::regclass, c.relkind, g.grantee, CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
        g.privilege_type, format(' (%I)', a.attname)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0, aclexplode(a.attacl) g WHERE g.grantee <> c.relowner AND c.oid IN (SELECT oid FROM theirs)),
line(step, n, rank, text) AS (
    -- 1: before
    SELECT 1, 0, '', E'-- 1. Before anything: the extension, and who may connect.'
    UNION ALL SELECT 1, 1, '', E'\\set ON_ERROR_STOP on\n\\pset footer off\n\\pset null -\nSET client_min_messages = warning;\nSET lock_timeout = ''10s'';\nSET statement_timeout = 0;'
    UNION ALL SELECT 1, 2, '', format('SET search_path = pg_catalog, %s;', string_agg(quote_ident(nsname), ', ' ORDER BY nsname)) FROM schema_of
    UNION ALL SELECT 1, 3, '', format($t$SET bulkhead_adopt.database = %L;
DO $$BEGIN
    IF current_database() <> current_setting('bulkhead_adopt.database') THEN
        RAISE EXCEPTION 'this script was written for the database %%', current_setting('bulkhead_adopt.database');
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE EXCEPTION 'this script needs a superuser'; END IF;
END$$;
CREATE EXTENSION IF NOT EXISTS bulkhead;$t$, current_database())
    UNION ALL SELECT 1, 4, r.rolname, format('GRANT CONNECT ON DATABASE %I TO %I;', current_database(), r.rolname)
    FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper AND (r.oid IN (SELECT grantee FROM granted) OR r.oid IN (SELECT owner FROM class))
    UNION ALL SELECT 1, 5, '', format('REVOKE ALL ON DATABASE %I FROM PUBLIC;', current_database())
    -- 2: roles
    UNION ALL SELECT 2, 0, '', E'\n-- 2. Roles: the owner of the tables, which nobody logs in as a tenant with, and the one role of all tenants.'
    UNION ALL SELECT 2, 1, x.role, format(E'SELECT to_regrole(%L) IS NULL AS todo \\gset\n\\if :todo\nCREATE ROLE %I NOLOGIN;\n\\endif', quote_ident(x.role), x.role)
    FROM names, LATERAL (VALUES (owner), (rows_role)) x(role)
    UNION ALL SELECT 2, 2, s.nsname, format('GRANT USAGE, CREATE ON SCHEMA %I TO %I;', s.nsname, n.owner) FROM schema_of s, names n
    UNION ALL SELECT 2, 3, s.nsname, format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC; GRANT USAGE ON SCHEMA %I TO %I;', s.nsname, s.nsname, n.rows_role) FROM schema_of s, names n
    UNION ALL SELECT 2, 4, c.name::text, format('ALTER TABLE %s OWNER TO %I;', c.name, n.owner) FROM class c, names n WHERE c.owner IN (SELECT oid FROM mighty) AND c.kind <> 'unclear'
    UNION ALL SELECT 2, 5, c.name::text, format('ALTER TABLE %s OWNER TO %I;', l.oid::regclass, n.owner) FROM class c JOIN leaf l ON l.root = c.oid AND l.oid <> c.oid JOIN pg_class p ON p.oid = l.oid, names n
        WHERE p.relowner IN (SELECT oid FROM mighty) AND c.kind <> 'unclear'
    -- 3: map
    UNION ALL SELECT 3, 0, '', E'\n-- 3. The number and id of each tenant. Where the tenants exist in Bulkhead already (bulkhead get tenants), put their\n--    numbers and ids here instead; whatever stands in the table before this step stays.'
    UNION ALL SELECT 3, 1, '', $t$CREATE SCHEMA IF NOT EXISTS bulkhead_adopt;
REVOKE ALL ON SCHEMA bulkhead_adopt FROM PUBLIC;
CREATE TABLE IF NOT EXISTS bulkhead_adopt.step (name text PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS bulkhead_adopt.tenant_map (
    old text PRIMARY KEY,
    no  int  NOT NULL UNIQUE CHECK (no >= 1),
    id  text NOT NULL UNIQUE CHECK (id ~ '^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$' AND id !~ '--')
);$t$
    UNION ALL SELECT 3, 2, '', format($t$INSERT INTO bulkhead_adopt.tenant_map (old, no, id)
SELECT o.old, %s,
    CASE WHEN o.slug ~ '^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$' AND count(*) OVER (PARTITION BY o.slug) = 1
        AND o.slug NOT IN ('www', 'api', 'admin', 'app', 't', 'default', 'bulkhead') THEN o.slug ELSE 'org-' || left(md5(o.old), 12) END
FROM (%s) o
ON CONFLICT DO NOTHING;
SELECT no, id, old FROM bulkhead_adopt.tenant_map ORDER BY no;$t$,
        CASE WHEN (SELECT name FROM wanted) = 'tenant_no' THEN 'o.old::int' ELSE '(SELECT coalesce(max(x.no), 0) FROM (SELECT no FROM bulkhead.tenant UNION ALL
    SELECT no FROM bulkhead_adopt.tenant_map) x)::int + row_number() OVER (ORDER BY o.old)' END,
        coalesce((SELECT format($q$SELECT t.%I::text AS old, %s AS slug FROM %s t
    WHERE NOT EXISTS (SELECT FROM bulkhead_adopt.tenant_map m WHERE m.old = t.%I::text)$q$, l.col,
                coalesce(format($s$trim(BOTH '-' FROM regexp_replace(lower(t.%s::text), '[^a-z0-9]+', '-', 'g'))$s$, quote_ident(n.slug)), 'NULL'), l.oid::regclass, l.col) FROM list l),
            (SELECT format($q$SELECT u.old, NULL::text AS slug FROM (%s) u
    WHERE u.old IS NOT NULL AND NOT EXISTS (SELECT FROM bulkhead_adopt.tenant_map m WHERE m.old = u.old)$q$,
                string_agg(format('SELECT t.%I::text AS old FROM %s t', d.col, d.oid::regclass), ' UNION ' ORDER BY d.oid::regclass::text)) FROM direct d))) FROM names n
    -- 4: columns
    UNION ALL SELECT 4, 0, '', E'\n-- 4. The tenant column. It has no default yet, so this writes no row.'
    UNION ALL SELECT 4, 1, m.name::text, format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS tenant_no int;', m.name) FROM mine m
    -- 5: backfill
    UNION ALL SELECT 5, 0, '', E'\n-- 5. Fill it, 2000 blocks at a time, each committed by itself; may be stopped and begun again. The application must not\n--    add rows from here to the end of step 6. Triggers and rules of the application do not fire.'
    UNION ALL SELECT 5, 1, '', $t$CREATE OR REPLACE PROCEDURE bulkhead_adopt.fill(tab regclass, tenant text) LANGUAGE plpgsql AS $$
DECLARE
    block bigint := 0;
    blocks bigint := pg_relation_size(tab) / current_setting('block_size')::int;
BEGIN
    WHILE block <= blocks LOOP
        EXECUTE format('UPDATE ONLY %s t SET tenant_no = %s WHERE t.tenant_no IS NULL AND t.ctid >= %L::tid AND t.ctid < %L::tid',
            tab, tenant, format('(%s,0)', block), format('(%s,0)', block + 2000));
        COMMIT;
        block := block + 2000;
    END LOOP;
END$$;
SET session_replication_role = replica;$t$
    UNION ALL SELECT 5, 2 + m.depth, m.name::text || l.oid, format('CALL bulkhead_adopt.fill(%L, %L);', l.oid::regclass, CASE WHEN m.old IS NOT NULL
            THEN format('(SELECT m.no FROM bulkhead_adopt.tenant_map m WHERE m.old = %s)', m.old)
            ELSE format('(SELECT p.tenant_no FROM %s p WHERE %s)', m.parent::regclass, m.joined) END)
    FROM mine m JOIN leaf l ON l.root = m.oid AND l.kind = 'r'
    UNION ALL SELECT 5, 99, '', 'SET session_replication_role = origin;'
    -- 6: not null
    UNION ALL SELECT 6, 0, '', E'\n-- 6. Every row has a tenant now; a row that has none ends the script here.'
    UNION ALL SELECT 6, 1, m.name::text, format('ALTER TABLE %s ALTER COLUMN tenant_no SET NOT NULL;', m.name) FROM mine m
    -- 7: keys
    UNION ALL SELECT 7, 0, '', E'\n-- 7. Keys with the tenant in them, in one transaction: unique within a tenant, and foreign keys that cannot leave it.\n--    Tables are locked while their keys are built.'
    UNION ALL SELECT 7, 1, '', E'SELECT NOT EXISTS (SELECT FROM bulkhead_adopt.step WHERE name = ''keys'') AS todo \\gset\n\\if :todo\nBEGIN;'
    UNION ALL SELECT 7, 2, f.tab::text || f.name, format('ALTER TABLE %s DROP CONSTRAINT %I;', f.tab, f.name) FROM inner_fk f
    UNION ALL SELECT 7, 3, u.name::text, CASE WHEN u.con IS NULL THEN format('DROP INDEX %s; %s;', u.name, regexp_replace(pg_get_indexdef(u.oid), '^(CREATE (?:UNIQUE )?INDEX (?:"(?:[^"]|"")*"|[^" .]+) ON )(?:ONLY )?((?:(?:"(?:[^"]|"")*"|[^" .]+)\.)?(?:"(?:[^"]|"")*"|[^" .]+) USING \w+ \()', '\1\2tenant_no, '))
            ELSE format('ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s %s;', u.tab, quote_ident(u.conname), quote_ident(u.conname),
                regexp_replace(pg_get_constraintdef(u.con), '\(', CASE WHEN u.contype = 'x' THEN '(tenant_no WITH =, ' ELSE '(tenant_no, ' END)) END FROM unique_index u
    UNION ALL SELECT 7, 4, f.tab::text || f.name, format('ALTER TABLE %s ADD CONSTRAINT %I %s%s;', f.tab, f.name, f.text, CASE WHEN f.relkind = 'p' THEN '' ELSE ' NOT VALID' END) FROM inner_fk f
    UNION ALL SELECT 7, 5, '', E'INSERT INTO bulkhead_adopt.step (name) VALUES (''keys'');\nCOMMIT;\n\\endif'
    UNION ALL SELECT 7, 6, f.tab::text || f.name, format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', f.tab, f.name) FROM inner_fk f WHERE f.relkind <> 'p'
    -- 8: indexes
    UNION ALL SELECT 8, 0, '', E'\n-- 8. Indexes that begin with the tenant: the others would not be used.'
    UNION ALL SELECT 8, 1, i.name::text, format(E'%s;\nDROP INDEX %sIF EXISTS %s;', regexp_replace(regexp_replace(i.text, '^CREATE INDEX (?:"(?:[^"]|"")*"|[^" .]+) ON (ONLY )?((?:(?:"(?:[^"]|"")*"|[^" .]+)\.)?(?:"(?:[^"]|"")*"|[^" .]+)) USING btree \(',
            format('CREATE INDEX %sIF NOT EXISTS %s ON \2 USING btree (tenant_no, ', CASE WHEN i.relkind = 'p' THEN '' ELSE 'CONCURRENTLY ' END, replace(quote_ident(left(i.relname, 56) || '_tenant'), '\', '\\'))), '\n', ' '),
        CASE WHEN i.relkind = 'p' THEN '' ELSE 'CONCURRENTLY ' END, i.name) FROM plain_index i
    -- 9: reference tables
    UNION ALL SELECT 9, 0, '', E'\n-- 9. Reference tables: every tenant reads all of them, and none writes. Look at each: what stands in them is seen by all.'
    UNION ALL SELECT 9, 1, c.name::text, format('SECURITY LABEL FOR bulkhead ON TABLE %s IS ''shared''; GRANT SELECT ON %s TO %I;', c.name, c.name, n.rows_role) FROM class c, names n WHERE c.kind = 'reference'
    UNION ALL SELECT 9, 2, c.name::text, format(E'-- Not clear: %s. Tenants get no right on it. Where all may read all of it:\n-- SECURITY LABEL FOR bulkhead ON TABLE %s IS ''shared''; GRANT SELECT ON %s TO %I;',
            regexp_replace(c.name::text, '[\r\n]', ' ', 'g'), regexp_replace(c.name::text, '[\r\n]', ' ', 'g'), regexp_replace(c.name::text, '[\r\n]', ' ', 'g'), regexp_replace(n.rows_role, '[\r\n]', ' ', 'g')) FROM class c, names n WHERE c.kind = 'unclear'
    -- 10: code
    UNION ALL SELECT 10, 0, '', E'\n-- 10. Views read as their reader; functions that run as their owner are not a superuser''s, and choose their search_path.'
    UNION ALL SELECT 10, 1, v.name::text, format('ALTER VIEW %s SET (security_invoker = true); GRANT SELECT ON %s TO %I;', v.name, v.name, n.rows_role) FROM tenant_view v, names n WHERE v.kind = 'v'
    UNION ALL SELECT 10, 2, g.name::text || g.who, format('REVOKE ALL ON %s FROM %s; -- a materialized view has no row level security', g.name, g.who)
        FROM (SELECT DISTINCT name, who FROM granted WHERE relkind = 'm' AND oid IN (SELECT oid FROM tenant_view)) g
    UNION ALL SELECT 10, 3, r.name::text, format('ALTER ROUTINE %s OWNER TO %I;', r.name, n.owner) FROM routine r, names n WHERE r.definer AND r.owner IN (SELECT oid FROM mighty)
    UNION ALL SELECT 10, 4, r.name::text, format('ALTER ROUTINE %s SET search_path = %s, pg_temp;', r.name, coalesce(nullif(r.rest, ''), r.nsname))
        FROM routine r WHERE r.definer AND (r.path IS NULL OR r.path !~ 'pg_temp"?\s*$')
    -- 11: protect
    UNION ALL SELECT 11, 0, '', E'\n-- 11. From the COMMIT below on, who has not called bulkhead.enter() sees no row of these tables.'
    UNION ALL SELECT 11, 1, '', 'BEGIN;'
    UNION ALL SELECT 11, 2, p.polname || m.name, format('DROP POLICY IF EXISTS %I ON %s;', p.polname, l.oid::regclass) FROM mine m JOIN leaf l ON l.root = m.oid JOIN pg_policy p ON p.polrelid = l.oid
        WHERE p.polpermissive AND p.polname <> 'bulkhead_tenant'
    UNION ALL SELECT 11, 3, '', format(E'SELECT pg_catalog.count(bulkhead.protect(t)) AS protected FROM unnest(ARRAY[\n    %s]::regclass[]) t;',
        string_agg(quote_literal(m.name), E',\n    ' ORDER BY m.name::text)) FROM mine m
    UNION ALL SELECT 11, 4, g.name::text || g.who || g.col, format('REVOKE %s ON %s FROM %s;', g.rights, g.name, g.who)
        FROM (SELECT x.name, x.who, x.col, CASE WHEN x.grantee = 0 THEN 'ALL' || x.col ELSE string_agg(x.what || x.col, ', ' ORDER BY x.what) END AS rights
            FROM granted x WHERE x.relkind IN ('r', 'p', 'v') AND (x.grantee = 0 OR x.what IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'))
            GROUP BY x.name, x.who, x.col, x.grantee) g
    UNION ALL SELECT 11, 5, m.name::text, format('GRANT %s ON %s TO %I;', CASE m.kind WHEN 'tenants' THEN 'SELECT, UPDATE' ELSE 'SELECT, INSERT, UPDATE, DELETE' END, m.name, n.rows_role) FROM mine m, names n
    UNION ALL SELECT 11, 6, s.name::text, format('GRANT USAGE ON SEQUENCE %s TO %I;', s.name, n.rows_role) FROM sequence s, names n WHERE s.deptype = 'a'
    UNION ALL SELECT 11, 6, g.name::text || g.who, format('REVOKE SELECT, UPDATE ON SEQUENCE %s FROM %s;', g.name, g.who)
        FROM (SELECT DISTINCT name, who FROM granted WHERE relkind = 'S' AND what IN ('SELECT', 'UPDATE')) g
    UNION ALL SELECT 11, 7, '', format(E'INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state)\nSELECT no, id, ''row'', %L, %L, ''active'' FROM bulkhead_adopt.tenant_map ON CONFLICT (no) DO NOTHING;', n.rows_role, n.schema) FROM names n
    UNION ALL SELECT 11, 8, '', format(E'SELECT to_regrole(''bulkhead_pool'') IS NOT NULL AS todo \\gset\n\\if :todo\nGRANT CONNECT ON DATABASE %I TO bulkhead_pool;\n\\endif', current_database())
    UNION ALL SELECT 11, 9, '', 'COMMIT;'
    -- 12: look
    UNION ALL SELECT 12, 0, '', E'\n-- 12. What is left to mend.'
    UNION ALL SELECT 12, 1, '', 'SELECT severity, object, problem, fix FROM bulkhead.lint() ORDER BY array_position(ARRAY[''error'', ''warning'', ''info''], severity), object;')
SELECT text FROM line ORDER BY step, n, rank
