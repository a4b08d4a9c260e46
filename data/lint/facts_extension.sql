WITH RECURSIVE installed(yes) AS (SELECT true),
tenant AS (SELECT t.no, t.mode, t.role, t.schema FROM bulkhead.tenant t WHERE t.state <> 'gone'),
pool AS (SELECT r.oid AS role FROM pg_roles r WHERE bulkhead.is_pool_role(r.rolname)),
