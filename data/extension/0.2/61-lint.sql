$lint$;
REVOKE ALL ON FUNCTION bulkhead.lint() FROM PUBLIC;
COMMENT ON FUNCTION bulkhead.lint() IS 'what in this database lets one tenant reach another; no rows where all is well';
