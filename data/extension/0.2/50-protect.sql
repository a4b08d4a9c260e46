-- Tables of the mode `row`: one table for all tenants, and a policy that shows each its own rows.

-- A table, its partitions and the tables that inherit from it, itself first.
CREATE FUNCTION bulkhead.table_parts(root regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE part(id, depth) AS (
        SELECT root::oid, 0
        UNION
        SELECT i.inhrelid, p.depth + 1 FROM part p JOIN pg_inherits i ON i.inhparent = p.id)
    SELECT id::regclass FROM part GROUP BY id ORDER BY min(depth), id;
END;

-- The column that a protected table's policy compares with the bound tenant; NULL where it is not protected.
CREATE FUNCTION bulkhead.tenant_column(tab regclass) RETURNS name
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT a.attname FROM pg_policy p
        JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid AND d.refobjsubid > 0
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE p.polrelid = tab AND p.polname = 'bulkhead_tenant' LIMIT 1;
END;

CREATE FUNCTION bulkhead.is_shared_table(tab regclass) RETURNS bool
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM pg_seclabel l WHERE l.objoid = tab AND l.classoid = 'pg_class'::regclass
        AND l.objsubid = 0 AND l.provider = 'bulkhead' AND l.label = 'shared');
END;

-- Why `part` cannot be protected by its column `col`: in the order in which they are best mended.
CREATE FUNCTION bulkhead.protect_problems(part regclass, col name)
    RETURNS TABLE (code text, problem text, hint text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH c AS (
        SELECT k.oid, k.relkind, k.relpersistence, k.relowner, n.nspname, a.attnum, a.atttypid, a.attgenerated,
            a.attidentity
        FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace
            LEFT JOIN pg_attribute a ON a.attrelid = k.oid AND a.attname = col AND a.attnum > 0
        WHERE k.oid = part)
    SELECT '42809', format('it is a %s', k.name), k.hint
    FROM c JOIN (VALUES
        ('v', 'view', 'Protect the tables that it reads, and make it read them as its reader: '
            'ALTER VIEW … SET (security_invoker = true).'),
        ('m', 'materialized view', 'PostgreSQL has no row level security for it: use a view, or a table.'),
        ('f', 'foreign table', 'Its rows are another server''s: protect them there.'),
        ('S', 'sequence', 'Only tables are protected.'), ('i', 'index', 'Only tables are protected.'),
        ('I', 'index', 'Only tables are protected.'), ('c', 'composite type', 'Only tables are protected.'),
        ('t', 'toast table', 'Protect its table.')) k(kind, name, hint) ON k.kind = c.relkind
    UNION ALL
    SELECT '42809', 'it is a table of the system', 'Only tables of an application are protected.'
    FROM c WHERE c.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'bulkhead')
    UNION ALL
    SELECT '42809', 'it is temporary', 'Use an ordinary table.' FROM c WHERE c.relpersistence = 't'
    UNION ALL
    SELECT '55000', 'it is labelled as shared by all tenants',
        format('SECURITY LABEL FOR bulkhead ON TABLE %s IS NULL', part)
    FROM c WHERE bulkhead.is_shared_table(part)
    UNION ALL
    SELECT '42703', format('it has no column %I', col),
        format('ALTER TABLE %s ADD COLUMN %I int; then fill it with the number of each row''s tenant.', part, col)
    FROM c WHERE c.attnum IS NULL AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT '42804', format('its column %I is of type %s, not integer', col, format_type(c.atttypid, NULL)),
        format('ALTER TABLE %s ADD COLUMN tenant_no int; then fill it with the number of each row''s tenant.', part)
    FROM c WHERE c.atttypid <> 'int4'::regtype
    UNION ALL
    SELECT '55000', format('its column %I is generated', col),
        format('ALTER TABLE %s ALTER COLUMN %I DROP %s', part, col,
            CASE WHEN c.attgenerated <> '' THEN 'EXPRESSION' ELSE 'IDENTITY' END)
    FROM c WHERE c.attgenerated <> '' OR c.attidentity <> ''
    UNION ALL
    SELECT '55000', format('its owner %I passes row level security', r.rolname),
        format('ALTER TABLE %s OWNER TO a role without SUPERUSER and BYPASSRLS.', part)
    FROM c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolsuper OR r.rolbypassrls
    UNION ALL
    SELECT '55000', format('its policy %I lets further rows through', p.polname),
        format('DROP POLICY %I ON %s', p.polname, part)
    FROM pg_policy p WHERE p.polrelid = part AND p.polpermissive AND p.polname <> 'bulkhead_tenant'
    UNION ALL
    -- A unique index tells a tenant which values others have, and lets it take them away.
    SELECT '55000', format('its unique index %I does not hold the column %I', i.relname, col),
        CASE WHEN k.oid IS NULL THEN format('DROP INDEX %s; %s', x.indexrelid::regclass,
                regexp_replace(pg_get_indexdef(x.indexrelid),
                    '^(CREATE (?:UNIQUE )?INDEX (?:"(?:[^"]|"")*"|[^" .]+) ON (?:ONLY )?(?:(?:"(?:[^"]|"")*"|[^" .]+)\.)?(?:"(?:[^"]|"")*"|[^" .]+) USING \w+ \()',
                    format('\1%s, ', replace(quote_ident(col), '\', '\\'))))
            ELSE format('ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s %s', part, quote_ident(k.conname),
                quote_ident(k.conname), regexp_replace(pg_get_constraintdef(k.oid), '\(',
                    format(CASE WHEN k.contype = 'x' THEN '(%s WITH =, ' ELSE '(%s, ' END, replace(quote_ident(col), '\', '\\')))) END
    FROM c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid
        LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
    WHERE (x.indisunique OR x.indisexclusion) AND c.attnum IS NOT NULL
        AND NOT c.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
    UNION ALL
    SELECT '55000', format('its foreign key %I can point at another tenant''s row of %s', k.conname,
            k.confrelid::regclass),
        format('Add the tenant column on both sides: FOREIGN KEY (%I, …) REFERENCES %s (%I, …); or label %s as shared.',
            col, k.confrelid::regclass, coalesce(bulkhead.tenant_column(k.confrelid), col), k.confrelid::regclass)
    FROM c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'
    WHERE c.attnum IS NOT NULL AND NOT bulkhead.is_shared_table(k.confrelid)
        AND NOT EXISTS (SELECT FROM generate_subscripts(k.conkey, 1) s
            JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[s]
            WHERE k.conkey[s] = c.attnum AND f.attname = coalesce(bulkhead.tenant_column(k.confrelid), col))
    UNION ALL
    SELECT '55000', format('the foreign key %I of %s can point at another tenant''s row here', k.conname,
            k.conrelid::regclass),
        format('Add the tenant column on both sides: FOREIGN KEY (%I, …) REFERENCES %s (%I, …).',
            coalesce(bulkhead.tenant_column(k.conrelid), col), part, col)
    FROM c JOIN pg_constraint k ON k.confrelid = c.oid AND k.contype = 'f' AND k.conrelid <> c.oid
    WHERE c.attnum IS NOT NULL AND NOT EXISTS (SELECT FROM generate_subscripts(k.confkey, 1) s
            JOIN pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = k.conkey[s]
            WHERE k.confkey[s] = c.attnum AND f.attname = coalesce(bulkhead.tenant_column(k.conrelid), col));
END;

-- Code of the table's owner (in CHECK constraints, index expressions, partition keys) runs while a table is altered or
-- counted: with the owner's rights here, also where a superuser asks (data/owner.c). Who may not act for him is refused.
CREATE FUNCTION bulkhead.as_owner(tab regclass, statement text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bh_as_owner';
CREATE FUNCTION bulkhead.count_rows(tab regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bh_count_rows';
REVOKE ALL ON FUNCTION bulkhead.as_owner(regclass, text), bulkhead.count_rows(regclass) FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.as_owner(regclass, text) IS 'runs a statement on a table with its owner''s rights';
COMMENT ON FUNCTION bulkhead.count_rows(regclass) IS 'all rows of a table, counted with its owner''s rights';

-- Runs with the caller's rights: PostgreSQL itself asks whether the table is the caller's. A superuser may grant
-- EXECUTE to the role that runs migrations.
CREATE FUNCTION bulkhead.protect_part(part regclass, col name) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    expression text := format('(%I = bulkhead.tenant_no())', col);
    c record;
BEGIN
    SELECT k.relrowsecurity, k.relforcerowsecurity, k.relispartition, a.attnum, a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid) AS fallback,
            (SELECT pg_get_expr(p.polqual, p.polrelid) = expression AND pg_get_expr(p.polwithcheck, p.polrelid) = expression
                    AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}'
                FROM pg_policy p WHERE p.polrelid = part AND p.polname = 'bulkhead_tenant') AS policy
        INTO STRICT c
        FROM pg_class k JOIN pg_attribute a ON a.attrelid = k.oid AND a.attname = col
            LEFT JOIN pg_attrdef d ON d.adrelid = k.oid AND d.adnum = a.attnum
        WHERE k.oid = part;
    IF NOT c.attnotnull THEN
        PERFORM bulkhead.as_owner(part, format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', part, col));
    END IF;
    IF c.fallback IS DISTINCT FROM 'bulkhead.tenant_no()' THEN
        PERFORM bulkhead.as_owner(part, format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT bulkhead.tenant_no()', part, col));
    END IF;
    IF NOT c.relrowsecurity OR NOT c.relforcerowsecurity THEN
        PERFORM bulkhead.as_owner(part, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part));
    END IF;
    IF c.policy IS DISTINCT FROM true THEN
        PERFORM bulkhead.as_owner(part, format('DROP POLICY IF EXISTS bulkhead_tenant ON %s', part));
        PERFORM bulkhead.as_owner(part, format('CREATE POLICY bulkhead_tenant ON %s USING %s WITH CHECK %s', part, expression, expression));
    END IF;
    IF NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = part AND x.indisvalid
            AND x.indpred IS NULL AND x.indkey[0] = c.attnum) THEN
        -- PostgreSQL itself builds an index with the rights of the table's owner, who may not create in the schema.
        EXECUTE format('CREATE INDEX ON %s (%I)', part, col);
    END IF;
END
$$;

CREATE FUNCTION bulkhead.protect(tab regclass, tenant_column name DEFAULT 'tenant_no') RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET client_min_messages = warning
AS $$
DECLARE
    part regclass;
    p record;
    others text;
BEGIN
    IF tab IS NULL OR tenant_column IS NULL OR NOT EXISTS (SELECT FROM pg_class WHERE oid = tab) THEN
        RAISE undefined_table USING MESSAGE = 'there is no table to protect';
    END IF;
    SELECT i.inhparent::regclass INTO part FROM pg_inherits i WHERE i.inhrelid = tab LIMIT 1;
    IF FOUND THEN
        RAISE wrong_object_type USING MESSAGE = format('cannot protect %s: it is a part of %s', tab, part),
            HINT = format('Protect the whole: SELECT bulkhead.protect(%L).', part);
    END IF;
    FOR part IN SELECT bulkhead.table_parts(tab) LOOP
        SELECT * INTO p FROM bulkhead.protect_problems(part, tenant_column) LIMIT 1;
        IF FOUND THEN
            SELECT 'Also: ' || string_agg(o.problem, '; ') INTO others
                FROM (SELECT q.problem FROM bulkhead.protect_problems(part, tenant_column) q OFFSET 1) o;
            RAISE EXCEPTION USING ERRCODE = p.code, MESSAGE = format('cannot protect %s: %s', part, p.problem),
                DETAIL = coalesce(others, 'Nothing else stands in the way.'), HINT = p.hint;
        END IF;
        IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = part AND a.attname = tenant_column
                AND NOT a.attnotnull) AND (SELECT relkind FROM pg_class WHERE oid = part) = 'r' THEN
            BEGIN
                PERFORM bulkhead.as_owner(part, format('ALTER TABLE ONLY %s ALTER COLUMN %I SET NOT NULL', part, tenant_column));
            EXCEPTION WHEN not_null_violation THEN
                RAISE not_null_violation USING
                    MESSAGE = format('cannot protect %s: it has rows of no tenant (%I is NULL)', part, tenant_column),
                    HINT = format('UPDATE %s SET %I = … WHERE %I IS NULL', part, tenant_column, tenant_column);
            END;
        END IF;
    END LOOP;
    PERFORM bulkhead.protect_part(t, tenant_column) FROM bulkhead.table_parts(tab) t;
END
$$;

CREATE FUNCTION bulkhead.unprotect(tab regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    col name;
BEGIN
    FOR part IN SELECT bulkhead.table_parts(tab) LOOP
        col := bulkhead.tenant_column(part);
        CONTINUE WHEN col IS NULL;
        PERFORM bulkhead.as_owner(part, format('DROP POLICY bulkhead_tenant ON %s', part));
        IF (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a
                ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                WHERE d.adrelid = part AND a.attname = col) = 'bulkhead.tenant_no()' THEN
            PERFORM bulkhead.as_owner(part, format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', part, col));
        END IF;
        -- Another policy is somebody else's wish.
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = part) THEN
            PERFORM bulkhead.as_owner(part, format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY', part));
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION bulkhead.table_parts(regclass), bulkhead.tenant_column(regclass),
    bulkhead.is_shared_table(regclass), bulkhead.protect_problems(regclass, name),
    bulkhead.protect_part(regclass, name), bulkhead.protect(regclass, name), bulkhead.unprotect(regclass) FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.protect(regclass, name) IS
    'makes a table safe for tenants that share it; refuses, with the reason and a hint, where it would not be';
COMMENT ON FUNCTION bulkhead.unprotect(regclass) IS
    'takes back what protect() made, but for the column and its index: all who may read the table see all rows';
