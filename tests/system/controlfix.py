"""The usual ways to keep tenants apart, in a server without the extension: what the attacks find there shows that they can find.

SetRole  the pool role is a member of the tenants' roles; SET LOCAL ROLE at the start of a transaction
Setting  one application role; row-level security on current_setting('app.tenant'), SET LOCAL app.tenant
"""
import attackfix
import pgserver
from attackfix import NO, SECRETS, VICTIM, Place

# Stand-ins for what the corpus asks about; they hold the same secrets as ours do.
PLATFORM = """
    CREATE SCHEMA bulkhead;
    CREATE TABLE bulkhead.tenant (no int PRIMARY KEY, id text, mode text DEFAULT 'schema', role name, schema name, state text, epoch int DEFAULT 1);
    REVOKE ALL ON bulkhead.tenant FROM PUBLIC;
    CREATE FUNCTION bulkhead.tenant_no() RETURNS int LANGUAGE sql AS 'SELECT NULL::int';
    CREATE FUNCTION bulkhead.tenant_id() RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
    GRANT USAGE ON SCHEMA bulkhead TO PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC"""


class SetRole:
    name = "SET LOCAL ROLE"
    tenant = "(substr(current_user, 5)::int)"  # bh_o43
    users = "bh_o42, bh_o43, bh_o44"
    setup = "GRANT bh_o42, bh_o43, bh_o44 TO bulkhead_pool"

    def __init__(self, server):
        self.server = server

    def steps(self, tenant):
        return [(f"SET LOCAL ROLE bh_o{NO[tenant]}", []), (f"SET LOCAL search_path = t{NO[tenant]}", [])]

    def unbound(self, wire):
        return wire.query("SELECT current_user, session_user").rows == [[["bulkhead_pool", "bulkhead_pool"]]]


class Setting:
    name = "RLS on current_setting()"
    tenant = "nullif(current_setting('app.tenant', true), '')::int"
    users = "bulkhead_pool"
    setup = "".join(f"""
        GRANT USAGE ON SCHEMA t{no} TO bulkhead_pool; GRANT ALL ON ALL TABLES IN SCHEMA t{no} TO bulkhead_pool; GRANT ALL ON ALL SEQUENCES IN SCHEMA t{no} TO bulkhead_pool;
        ALTER TABLE t{no}.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE t{no}.orders ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON t{no}.notes USING (current_setting('app.tenant', true) = '{no}');
        CREATE POLICY own ON t{no}.orders USING (current_setting('app.tenant', true) = '{no}');
        REVOKE TRUNCATE, REFERENCES, TRIGGER ON t{no}.notes, t{no}.orders FROM bulkhead_pool;""" for no in NO.values()) + "GRANT CREATE ON SCHEMA t44 TO bulkhead_pool"

    def __init__(self, server):
        self.server = server

    def steps(self, tenant):
        return [(f"SET LOCAL app.tenant = '{NO[tenant]}'", []), (f"SET LOCAL search_path = t{NO[tenant]}", [])]

    def unbound(self, wire):
        return wire.query("SELECT current_user, session_user, coalesce(current_setting('app.tenant', true), '')").rows == [[["bulkhead_pool", "bulkhead_pool", ""]]]


class Plain(pgserver.Server):
    """A server without the extension, with the corpus's tenants in a template that each mechanism is set up on."""

    def __init__(self):
        super().__init__("autovacuum = off\nshared_preload_libraries = ''\nlogging_collector = off")
        try:
            self.sql(f"CREATE ROLE bulkhead_pool LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'", database="postgres")
            self.sql("CREATE DATABASE base", database="postgres")
            self.sql("CREATE ROLE app_owner", database="postgres")
            self.sql(PLATFORM, database="base")
            for tenant, no in NO.items():
                self.make_tenant(no, tenant, "base", SECRETS.get(tenant, "SECRET-C"))
                self.sql(f"ALTER TABLE t{no}.orders OWNER TO bh_o{no}", database="base")
            for tenant in (attackfix.VICTIM, attackfix.ATTACKER):
                self.sql(attackfix.HIDDEN.format(NO[tenant], SECRETS.get(tenant, "SECRET-C")), database="base")
        except BaseException:
            self.close()
            raise

    def fresh(self, mechanism):
        """shared1 as at the beginning, for this mechanism; whatever was done to roles is undone."""
        for gid, in self.sql("SELECT gid FROM pg_prepared_xacts", database="postgres"):
            self.sql(f"ROLLBACK PREPARED '{gid}'")
        self.sql("SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = 'shared1'", database="postgres")
        self.sql("DROP DATABASE IF EXISTS shared1", database="postgres")
        self.sql(f"ALTER ROLE bulkhead_pool PASSWORD '{pgserver.POOL_PASSWORD}'; ALTER ROLE bulkhead_pool RESET ALL; REVOKE bh_o42, bh_o43, bh_o44 FROM bulkhead_pool", database="postgres")
        self.sql("CREATE DATABASE shared1 TEMPLATE base", database="postgres")
        self.sql(attackfix.SHARED.replace("CREATE ROLE app_owner;", "").format(tenant=mechanism.tenant))
        self.sql(attackfix.SHARED_USERS.format(mechanism.users))
        self.sql(mechanism.setup)


class Range:
    """Runs attacks against one mechanism, each on a place that the one before has not touched."""

    def __init__(self, server, mechanism):
        self.server, self.mechanism, self.place = server, mechanism(server), None
        self.renew(True)

    def renew(self, dirty):
        if self.place:
            self.place.close()
        if dirty:
            if self.place:
                self.admin.close()
            self.server.fresh(self.mechanism)
            self.admin = attackfix.admin_of(self.server)
        self.place = Place(self.server, self.mechanism)

    def close(self):
        self.place.close()
        self.admin.close()

    def fell(self, run, sql):
        """Leak kinds of one case in one path."""
        base = attackfix.baseline(self.place, self.admin)
        found = attackfix.violations(self.place, self.admin, base, run, sql)
        state = self.admin.query(attackfix.STATE)
        if found or state.code is not None:
            self.renew(state.code is not None or state.rows != base[0])
        return found


def victims_secret(place):
    return place.as_victim(["SELECT body FROM notes WHERE id = 1"]).rows == [[[SECRETS[VICTIM]]]]
