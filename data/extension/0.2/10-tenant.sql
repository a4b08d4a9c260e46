-- Modes of isolation, and the logins of tenants.

ALTER TABLE bulkhead.tenant DROP CONSTRAINT tenant_mode_check;
ALTER TABLE bulkhead.tenant ADD CONSTRAINT tenant_mode_check CHECK (mode IN ('row', 'schema', 'database', 'instance'));
-- data/login.c looks a login up in it.
CREATE INDEX tenant_role ON bulkhead.tenant (role);

-- Logins that act for one tenant beside the role in bulkhead.tenant: own compute, BI tools.
CREATE TABLE bulkhead.login (
    role name NOT NULL PRIMARY KEY CHECK (role <> ''),
    no   int  NOT NULL REFERENCES bulkhead.tenant ON DELETE CASCADE ON UPDATE CASCADE
);
REVOKE ALL ON bulkhead.login FROM PUBLIC;
CREATE INDEX login_no ON bulkhead.login (no);
SELECT pg_catalog.pg_extension_config_dump('bulkhead.login', '');
COMMENT ON TABLE bulkhead.login IS 'logins that are bound to one tenant, transaction by transaction';

CREATE TRIGGER login_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON bulkhead.login
    FOR EACH STATEMENT EXECUTE FUNCTION bulkhead.tenant_changed();
ALTER TABLE bulkhead.login ENABLE ALWAYS TRIGGER login_changed;

