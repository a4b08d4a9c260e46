-- bulkhead.protect(): what it makes, that it may be repeated, and each reason for which it refuses.
\pset format unaligned
\set SHOW_CONTEXT never
\c - postgres
SET client_min_messages = warning;
CREATE ROLE bh_app_owner;
CREATE ROLE bh_bypass BYPASSRLS;
CREATE SCHEMA app AUTHORIZATION bh_app_owner;
SET ROLE bh_app_owner;
CREATE TABLE app.customers (tenant_no int, id int, email text, PRIMARY KEY (tenant_no, id), UNIQUE (email, tenant_no));
CREATE TABLE app."Odd ""Table" (tenant_no int, "Odd Column" int, customer int,
    FOREIGN KEY (tenant_no, customer) REFERENCES app.customers);
CREATE TABLE app.events (tenant_no int, at date, what text) PARTITION BY RANGE (at);
CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE app.events_2 PARTITION OF app.events DEFAULT;
RESET ROLE;
CREATE FUNCTION pg_temp.look(tab regclass) RETURNS TABLE (part regclass, rls text, policy text, other text) LANGUAGE sql AS $$
    SELECT c.oid::regclass, concat_ws(' ', CASE WHEN relrowsecurity THEN 'on' END, CASE WHEN relforcerowsecurity THEN 'forced' END),
        (SELECT string_agg(format('%s %s %s', polname, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), ',')
            FROM pg_policy WHERE polrelid = c.oid),
        (SELECT string_agg(format('%s %s %s', attname, attnotnull, pg_get_expr(adbin, adrelid)), ',') FROM pg_attribute a
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid AND attname ~* 'tenant|odd')
        || (SELECT format(' %s indexes', count(*)) FROM pg_index WHERE indrelid = c.oid)
    FROM pg_class c WHERE c.oid IN (SELECT bulkhead.table_parts(tab)) ORDER BY c.oid $$;
SELECT bulkhead.protect('app.customers');
SELECT * FROM pg_temp.look('app.customers');
SELECT bulkhead.protect('app."Odd ""Table"');
SELECT bulkhead.protect('app.events');
SELECT * FROM pg_temp.look('app."Odd ""Table"') UNION ALL SELECT * FROM pg_temp.look('app.events');
-- again: nothing changes, not even an oid
CREATE TEMP TABLE before AS SELECT oid, xmin::text AS x FROM pg_policy UNION ALL SELECT oid, xmin::text AS x FROM pg_class WHERE relnamespace = 'app'::regnamespace;
SELECT bulkhead.protect('app.customers'), bulkhead.protect('app."Odd ""Table"'), bulkhead.protect('app.events');
SELECT count(*) > 5 AS compared, count(*) - count(a.oid) AS changed FROM before b LEFT JOIN
    (SELECT oid, xmin::text AS x FROM pg_policy UNION ALL SELECT oid, xmin::text AS x FROM pg_class) a USING (oid, x);
-- a new partition, and a policy that was changed, are mended by calling it again
SET ROLE bh_app_owner;
CREATE TABLE app.events_3 PARTITION OF app.events FOR VALUES FROM ('2027-01-01') TO ('2027-07-01');
ALTER POLICY bulkhead_tenant ON app.customers USING (true);
RESET ROLE;
SELECT bulkhead.protect('app.events'), bulkhead.protect('app.customers');
SELECT part, rls FROM pg_temp.look('app.events');
SELECT policy FROM pg_temp.look('app.customers');
-- the owner is bound too
INSERT INTO app.customers VALUES (42, 1, 'a@x'), (43, 1, 'a@x');
SET ROLE bh_app_owner;
SELECT count(*) FROM app.customers;
RESET ROLE;
SELECT count(*) FROM app.customers;
-- back
SELECT bulkhead.unprotect('app.customers'), bulkhead.unprotect('app.events'), bulkhead.unprotect('app.events');
SELECT * FROM pg_temp.look('app.customers') UNION ALL SELECT * FROM pg_temp.look('app.events');
-- another column
SET ROLE bh_app_owner;
CREATE TABLE app.renamed ("Org No" int);
RESET ROLE;
SELECT bulkhead.protect('app.renamed', 'Org No');
SELECT policy, other FROM pg_temp.look('app.renamed');
SELECT bulkhead.tenant_column('app.renamed');
SELECT bulkhead.unprotect('app.renamed');
SELECT * FROM pg_temp.look('app.renamed');
-- refused
SET ROLE bh_app_owner;
CREATE VIEW app.v AS SELECT * FROM app.customers;
CREATE MATERIALIZED VIEW app.m AS SELECT * FROM app.customers;
CREATE TABLE app.no_column (id int);
CREATE TABLE app.text_column (tenant_no text);
CREATE TABLE app.generated (x int, tenant_no int GENERATED ALWAYS AS (x + 1) STORED);
CREATE TABLE app.nulls (tenant_no int);
INSERT INTO app.nulls VALUES (42), (NULL);
CREATE TABLE app.keys (tenant_no int, id int PRIMARY KEY, email text UNIQUE);
CREATE UNIQUE INDEX keys_lower ON app.keys (lower(email)) INCLUDE (tenant_no);
CREATE TABLE app.outwards (tenant_no int, key_id int REFERENCES app.keys);
CREATE TABLE app.wide (tenant_no int);
CREATE POLICY everybody ON app.wide USING (true);
CREATE POLICY narrow ON app.wide AS RESTRICTIVE USING (true);
CREATE TABLE app.parent (tenant_no int);
CREATE TABLE app.child (UNIQUE (tenant_no)) INHERITS (app.parent);
RESET ROLE;
CREATE TABLE app.mighty (tenant_no int);
CREATE TABLE app.bypassing (tenant_no int);
ALTER TABLE app.bypassing OWNER TO bh_bypass;
CREATE TABLE app.reference (code text PRIMARY KEY);
SECURITY LABEL FOR bulkhead ON TABLE app.reference IS 'shared';
CREATE TEMP TABLE temporary (tenant_no int);
SELECT bulkhead.protect(NULL);
SELECT bulkhead.protect(1::oid::regclass);
SELECT bulkhead.protect('app.v');
SELECT bulkhead.protect('app.m');
SELECT bulkhead.protect('temporary');
SELECT bulkhead.protect('pg_catalog.pg_class');
SELECT bulkhead.protect('bulkhead.tenant');
SELECT bulkhead.protect('app.reference');
SELECT bulkhead.protect('app.no_column');
SELECT bulkhead.protect('app.text_column');
SELECT bulkhead.protect('app.generated');
SELECT bulkhead.protect('app.nulls');
SELECT bulkhead.protect('app.keys');
SELECT bulkhead.protect('app.outwards');
SELECT bulkhead.protect('app.wide');
SELECT bulkhead.protect('app.child');
SELECT bulkhead.protect('app.events_1');
SELECT bulkhead.protect('app.mighty');
SELECT bulkhead.protect('app.bypassing');
-- each becomes right as its hint says
DROP POLICY everybody ON app.wide;
SELECT bulkhead.protect('app.wide');
SELECT policy FROM pg_temp.look('app.wide');
SELECT bulkhead.protect('app.parent');
SELECT part, rls FROM pg_temp.look('app.parent');
ALTER TABLE app.outwards DROP CONSTRAINT outwards_key_id_fkey, ALTER key_id TYPE text, ADD FOREIGN KEY (key_id) REFERENCES app.reference;
SELECT bulkhead.protect('app.outwards');
ALTER TABLE app.keys DROP CONSTRAINT keys_pkey, ADD CONSTRAINT keys_pkey PRIMARY KEY (tenant_no, id);
ALTER TABLE app.keys DROP CONSTRAINT keys_email_key, ADD CONSTRAINT keys_email_key UNIQUE (tenant_no, email);
DROP INDEX app.keys_lower; CREATE UNIQUE INDEX keys_lower ON app.keys USING btree (tenant_no, lower(email)) INCLUDE (tenant_no);
SELECT bulkhead.protect('app.keys');
-- who may: the table's owner where a superuser granted it, nobody else
SET ROLE bh_app_owner;
SELECT bulkhead.protect('app.nulls');
RESET ROLE;
DELETE FROM app.nulls WHERE tenant_no IS NULL;
GRANT EXECUTE ON FUNCTION bulkhead.protect(regclass, name), bulkhead.protect_problems(regclass, name), bulkhead.protect_part(regclass, name),
    bulkhead.table_parts(regclass), bulkhead.tenant_column(regclass), bulkhead.is_shared_table(regclass), bulkhead.as_owner(regclass, text)
    TO bh_app_owner;
SET ROLE bh_app_owner;
SELECT bulkhead.protect('app.nulls');
SELECT bulkhead.protect('app.bypassing');
RESET ROLE;
SELECT rls FROM pg_temp.look('app.nulls');
DROP SCHEMA app CASCADE;
DROP OWNED BY bh_app_owner;
DROP ROLE bh_app_owner, bh_bypass;
