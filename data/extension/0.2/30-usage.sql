
-- What each tenant used, absolute since the file epoch began; a view, because people read views.
CREATE FUNCTION bulkhead.usage_read(
    OUT source text, OUT file_epoch bigint, OUT sampled_at timestamptz, OUT no int, OUT meter text, OUT value bigint)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'bh_usage_read';
REVOKE ALL ON FUNCTION bulkhead.usage_read() FROM PUBLIC;
CREATE VIEW bulkhead.usage AS SELECT source, file_epoch, sampled_at, no, meter, value FROM bulkhead.usage_read();
REVOKE ALL ON bulkhead.usage FROM PUBLIC;
COMMENT ON VIEW bulkhead.usage IS 'what each tenant of this server used since the file epoch began';

-- Who runs and who waits, of the tenants that are in memory.
CREATE FUNCTION bulkhead.shares(OUT no int, OUT running int, OUT waiting int, OUT budget_ms bigint)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'bh_shares';
REVOKE ALL ON FUNCTION bulkhead.shares() FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.shares() IS
    'statements of each limited tenant that run and wait now, and the database time left in its budget';
