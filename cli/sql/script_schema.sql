, thing(rank, move, own) AS (
    SELECT 1 AS rank, format('ALTER TYPE %s SET SCHEMA ', t.oid::regtype), format('TYPE %I', t.typname)
    FROM pg_type t JOIN ns ON ns.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
    UNION ALL
    SELECT 2, format('ALTER TABLE %s SET SCHEMA ', t.name), format('TABLE %I', t.relname) FROM tab t
    UNION ALL
    SELECT 3, format('ALTER TABLE %s SET SCHEMA ', l.oid::regclass), format('TABLE %I', c.relname) FROM leaf l JOIN pg_class c ON c.oid = l.oid WHERE l.oid <> l.root
    UNION ALL
    SELECT 4, format('ALTER SEQUENCE %s SET SCHEMA ', c.oid::regclass), format('SEQUENCE %I', c.relname)
    FROM pg_class c JOIN ns ON ns.oid = c.relnamespace WHERE c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i', 'e'))
    UNION ALL
    SELECT 5, format('ALTER %s %s SET SCHEMA ', CASE v.kind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, v.name), format('TABLE %I', c.relname) FROM view v JOIN pg_class c ON c.oid = v.oid
    UNION ALL
    SELECT 6, format('ALTER ROUTINE %s SET SCHEMA ', r.name), format('ROUTINE %I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) FROM routine r JOIN pg_proc p ON p.oid = r.oid),
line(step, n, rank, text) AS (
    SELECT 1, 0, '', $t$-- The tables as they are become those of one tenant, in a schema of its own in this database. Run it with the number and
-- id that Bulkhead has for that tenant: psql -v no=7 -v id=acme -f this file. Further tenants get the same tables by the
-- application's migrations, as bulkhead apply makes them.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET lock_timeout = '10s';
SET search_path = pg_catalog;
SELECT 'bh_o' || :no AS owner, 'bh_t' || :no AS user, 't' || :no AS schema, NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 't' || :no) AS todo \gset
CREATE EXTENSION IF NOT EXISTS bulkhead;
\if :todo
BEGIN;
CREATE ROLE :"owner" NOLOGIN;
CREATE ROLE :"user" NOLOGIN;
CREATE SCHEMA :"schema" AUTHORIZATION :"owner";
GRANT USAGE ON SCHEMA :"schema" TO :"user";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"user";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" GRANT USAGE ON SEQUENCES TO :"user";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" GRANT EXECUTE ON FUNCTIONS TO :"user";$t$
    UNION ALL SELECT 2, t.rank, t.move, t.move || ':"schema";' FROM thing t
    UNION ALL SELECT 3, t.rank, t.own, format('ALTER %s OWNER TO :"owner";', regexp_replace(t.own, '^(\w+) ', '\1 :"schema".')) FROM thing t
    UNION ALL SELECT 4, r.rank, r.who, format('REVOKE ALL ON ALL %s IN SCHEMA :"schema" FROM %s;', r.word, r.who)
    FROM (SELECT k.rank, k.word, g.who FROM (VALUES (1, 'TABLES'), (2, 'SEQUENCES'), (3, 'ROUTINES')) k(rank, word), (SELECT 'PUBLIC' AS who UNION
        SELECT DISTINCT quote_ident(pg_get_userbyid(a.grantee)) FROM pg_class c JOIN ns ON ns.oid = c.relnamespace, aclexplode(c.relacl) a WHERE a.grantee <> 0
            AND a.grantee NOT IN (SELECT oid FROM pg_roles WHERE rolsuper)) g) r
    UNION ALL SELECT 5, 1, '', $t$GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :"schema" TO :"user";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA :"schema" TO :"user";
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA :"schema" TO :"user";
INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES (:no, :'id', 'schema', :'user', :'schema', 'active');
COMMIT;
\endif$t$
    UNION ALL SELECT 6, 1, '', format(E'REVOKE ALL ON DATABASE %I FROM PUBLIC;\nDO $$BEGIN IF to_regrole(''bulkhead_pool'') IS NOT NULL THEN GRANT CONNECT ON DATABASE %I TO bulkhead_pool; END IF; END$$;', current_database(), current_database())
    UNION ALL SELECT 6, 2, '', 'SELECT severity, object, problem, fix FROM bulkhead.lint() ORDER BY array_position(ARRAY[''error'', ''warning'', ''info''], severity), object;')
SELECT text FROM line ORDER BY step, n, rank
