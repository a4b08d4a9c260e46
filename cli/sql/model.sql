-- What `bulkhead adopt` sees in a database. $1: the name of the column that says whose a row is, or NULL to guess it.
WITH RECURSIVE ns AS (
    SELECT n.oid, n.nspname AS name FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'bulkhead', 'bulkhead_adopt')
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')),
member AS (SELECT e.classid, e.objid FROM pg_depend e WHERE e.deptype = 'e'),
tab AS (
    SELECT c.oid, c.oid::regclass AS name, c.relkind AS kind, c.relowner AS owner, c.relname, ns.oid AS ns, ns.name AS nsname,
        c.relrowsecurity AS secured
    FROM pg_class c JOIN ns ON ns.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
        AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)),
leaf AS (
    SELECT t.oid AS root, t.oid, t.kind FROM tab t
    UNION ALL
    SELECT l.root, c.oid, c.relkind FROM leaf l JOIN pg_inherits i ON i.inhparent = l.oid JOIN pg_class c ON c.oid = i.inhrelid),
size AS (
    SELECT l.root, CASE WHEN min(c.reltuples) FILTER (WHERE c.relkind = 'r') < 0 THEN NULL
            ELSE sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind = 'r') END::bigint AS row_count
    FROM leaf l JOIN pg_class c ON c.oid = l.oid GROUP BY l.root),
mighty AS (SELECT oid FROM pg_roles WHERE rolsuper OR rolbypassrls),
wanted AS (
    SELECT g.name, count(a.attrelid) AS tables
    FROM (SELECT $1::name AS name, 0 AS rank WHERE $1 IS NOT NULL
        UNION ALL
        SELECT n, row_number() OVER () FROM unnest(ARRAY['tenant_id', 'org_id', 'organization_id', 'organisation_id', 'account_id',
            'workspace_id', 'company_id', 'team_id', 'customer_account_id', 'shop_id', 'site_id']::name[]) n WHERE $1 IS NULL) g
        JOIN pg_attribute a ON a.attname = g.name AND a.attnum > 0 AND NOT a.attisdropped AND a.attrelid IN (SELECT oid FROM tab)
    GROUP BY g.name, g.rank HAVING count(a.attrelid) > 1 OR $1 IS NOT NULL
    ORDER BY count(a.attrelid) DESC, g.rank LIMIT 1),
direct AS (
    SELECT t.oid, a.attname AS col, a.attnum, a.atttypid::regtype AS type, a.attnotnull AS filled
    FROM tab t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN wanted w ON w.name = a.attname),
fk AS (
    SELECT k.oid, k.conname AS name, k.conrelid AS relid, k.confrelid AS refid, k.conkey, k.confkey, k.confdeltype, k.confupdtype,
        k.condeferrable, k.condeferred,
        (SELECT bool_and(a.attnotnull) FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS filled,
        (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY s) FROM generate_subscripts(k.conkey, 1) s
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[s]) AS cols,
        (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY s) FROM generate_subscripts(k.confkey, 1) s
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[s]) AS refcols,
        (SELECT string_agg(format('p.%I = t.%I', b.attname, a.attname), ' AND ' ORDER BY s) FROM generate_subscripts(k.conkey, 1) s
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[s]
            JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[s]) AS joined
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid IN (SELECT oid FROM tab) AND k.confrelid IN (SELECT oid FROM tab)),
-- The table with one row per tenant: the one that most tenant columns point at.
list AS (
    SELECT f.refid AS oid, b.attname AS col FROM fk f JOIN direct d ON d.oid = f.relid AND f.conkey = ARRAY[d.attnum]
        JOIN pg_attribute b ON b.attrelid = f.refid AND b.attnum = f.confkey[1]
    GROUP BY f.refid, b.attname ORDER BY count(*) DESC LIMIT 1),
-- From whom each table gets its tenant: its own column, or over a foreign key that is never NULL.
path AS (
    SELECT l.oid, 0 AS depth, NULL::oid AS via FROM list l
    UNION
    SELECT d.oid, 0, NULL FROM direct d
    UNION
    SELECT f.relid, p.depth + 1, f.oid FROM path p JOIN fk f ON f.refid = p.oid AND f.filled
        AND f.relid NOT IN (SELECT oid FROM direct) AND f.relid NOT IN (SELECT oid FROM list)
    WHERE p.depth < 6),
known AS (
    SELECT DISTINCT ON (p.oid) p.oid, p.depth,
        CASE WHEN p.oid IN (SELECT oid FROM list) THEN 'tenants' WHEN p.depth = 0 THEN 'direct' ELSE 'derived' END AS kind,
        coalesce((SELECT format('t.%I::text', l.col) FROM list l WHERE l.oid = p.oid),
            (SELECT format('t.%I::text', d.col) FROM direct d WHERE d.oid = p.oid)) AS old,
        f.joined, f.refid AS parent
    FROM path p LEFT JOIN fk f ON f.oid = p.via ORDER BY p.oid, p.depth, p.via),
personal AS (
    SELECT DISTINCT a.attrelid AS oid FROM pg_attribute a WHERE a.attrelid IN (SELECT oid FROM tab) AND a.attnum > 0
        AND a.attname ~* 'mail|passw|secret|token|phone|birth|iban|ssn|card|hash|first_?name|last_?name|address|session'),
class AS (
    SELECT t.oid, t.name, t.owner, t.kind AS relkind, t.relname, t.ns, t.nsname, k.depth, k.old, k.joined, k.parent, s.row_count,
        CASE WHEN k.kind IS NOT NULL THEN k.kind
            WHEN t.oid IN (SELECT f.refid FROM fk f JOIN known x ON x.oid = f.relid) AND t.oid NOT IN (SELECT oid FROM personal)
                AND NOT EXISTS (SELECT FROM fk f WHERE f.relid = t.oid AND f.refid IN (SELECT oid FROM known)) THEN 'reference'
            ELSE 'unclear' END AS kind
    FROM tab t LEFT JOIN known k ON k.oid = t.oid LEFT JOIN size s ON s.root = t.oid),
mine AS (SELECT * FROM class WHERE kind IN ('tenants', 'direct', 'derived')),
view AS (
    SELECT DISTINCT c.oid, c.oid::regclass AS name, c.relkind AS kind, c.relowner AS owner, ns.name AS nsname
    FROM pg_class c JOIN ns ON ns.oid = c.relnamespace
    WHERE c.relkind IN ('v', 'm') AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)),
routine AS (
    SELECT p.oid, p.oid::regprocedure AS name, p.proowner AS owner, p.prosecdef AS definer, p.prosrc AS source, quote_ident(ns.name) AS nsname,
        p.prokind AS kind, (SELECT substr(c, 13) FROM unnest(p.proconfig) c WHERE c LIKE 'search\_path=%') AS path,
        (SELECT coalesce(string_agg(q.name, ', ' ORDER BY m.n), '') FROM unnest(p.proconfig) c,
            regexp_matches(substr(c, 13), '("(?:[^"]|"")*"|[^",\s]+)', 'g') WITH ORDINALITY m(word, n),
            LATERAL (SELECT CASE WHEN m.word[1] LIKE '"%' THEN m.word[1] ELSE quote_ident(lower(m.word[1])) END) q(name)
            WHERE c LIKE 'search\_path=%' AND q.name NOT IN ('pg_temp', '"pg_temp"', '""')) AS rest
    FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)),
-- What needs a person before the script can run to its end.
blocker AS (
    SELECT format('table %s', f.relid::regclass) AS object,
        format('points at %s, which belongs to no tenant that can be told', f.refid::regclass) AS problem,
        format('decide: all tenants may read all of %s (label it as shared), or give each tenant its own rows there', f.refid::regclass) AS fix
    FROM fk f JOIN mine m ON m.oid = f.relid JOIN class c ON c.oid = f.refid AND c.kind = 'unclear'
    UNION
    SELECT format('table %s', f.relid::regclass), format('is no tenant''s, and points at %s', f.refid::regclass),
        'give it a tenant column, or drop that foreign key'
    FROM fk f JOIN mine m ON m.oid = f.refid JOIN class c ON c.oid = f.relid AND c.kind IN ('unclear', 'reference')
    UNION
    SELECT format('table %s', d.oid::regclass), format('its column %I may be NULL: such rows are nobody''s', d.col), 'fill or delete those rows'
    FROM direct d WHERE NOT d.filled AND d.oid NOT IN (SELECT oid FROM list)
    UNION
    SELECT format('table %s', c.name), 'has a column tenant_no of another type than integer', 'rename that column'
    FROM mine c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_no' AND a.atttypid <> 'int4'::regtype
    UNION
    SELECT format('foreign key %I of %s', f.name, f.relid::regclass), 'has ON UPDATE SET NULL or SET DEFAULT, which would touch the tenant too',
        'make it ON UPDATE NO ACTION or CASCADE'
    FROM fk f JOIN mine m ON m.oid = f.relid WHERE f.confupdtype IN ('n', 'd') AND f.refid IN (SELECT oid FROM mine)
    UNION
    SELECT format('table %s', l.oid::regclass), 'is a foreign table in the place of a partition', 'attach an ordinary table instead'
    FROM leaf l JOIN mine m ON m.oid = l.root WHERE l.kind = 'f'
    UNION
    SELECT format('index %s', x.indexrelid::regclass), 'is an exclusion constraint: with the tenant in it, it needs the extension btree_gist', 'CREATE EXTENSION btree_gist'
    FROM pg_index x JOIN mine m ON m.oid = x.indrelid WHERE x.indisexclusion AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gist')),
-- What tenants of a shared database cannot do.
session_state AS (
    SELECT string_agg(DISTINCT w.what, ', ' ORDER BY w.what) AS uses FROM (
        SELECT k.what FROM routine r JOIN (VALUES ('\mLISTEN\M|\mNOTIFY\M|pg_notify', 'LISTEN and NOTIFY'), ('\mTEMP(ORARY)?\s+TABLE\M', 'temporary tables'),
            ('pg_(try_)?advisory_', 'session advisory locks'), ('\mdblink|COPY\s.*\sPROGRAM\M', 'connections and programs of the server')) k(pattern, what)
            ON r.source ~* k.pattern
        UNION ALL
        SELECT format('the extension %s', e.extname) FROM pg_extension e WHERE e.extname NOT IN ('plpgsql', 'bulkhead', 'pgcrypto', 'uuid-ossp', 'citext', 'pg_trgm',
            'btree_gist', 'btree_gin', 'hstore', 'unaccent', 'ltree', 'intarray', 'fuzzystrmatch', 'pg_stat_statements', 'tablefunc', 'isn', 'cube', 'earthdistance', 'seg')
        UNION ALL
        SELECT 'large objects' FROM pg_largeobject_metadata HAVING count(*) > 0) w),
advice AS (
    SELECT CASE WHEN NOT EXISTS (SELECT FROM direct) THEN CASE WHEN s.uses IS NULL THEN 'schema' ELSE 'database' END
        WHEN (SELECT count(*) FROM mine) >= (SELECT count(*) FROM class WHERE kind = 'unclear') THEN 'row' ELSE 'schema' END AS mode,
        s.uses FROM session_state s)
