
-- The audit ring (data/audit.h): what was refused on this server since it started, oldest first. A reader keeps
-- (epoch, seq) of its last row; where audit_state().oldest > seq + 1, the ring has dropped what lay between.
CREATE FUNCTION bulkhead.audit_read(after bigint, most int DEFAULT 1000)
    RETURNS TABLE (epoch bigint, seq bigint, at timestamptz, no int, tenant text, subject text, database text,
        object text, sqlstate text, message text, fingerprint text, suppressed bigint)
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'bh_audit_read';
CREATE FUNCTION bulkhead.audit_state(OUT epoch bigint, OUT head bigint, OUT oldest bigint, OUT suppressed bigint)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'bh_audit_state';
REVOKE ALL ON FUNCTION bulkhead.audit_read(bigint, int), bulkhead.audit_state() FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.audit_read(bigint, int) IS 'refused attempts with a higher number, at most so many';
COMMENT ON FUNCTION bulkhead.audit_state() IS 'which entries the audit ring holds';
