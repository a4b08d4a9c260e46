-- Resets of connection pools (asyncpg's, for one) end with SELECT pg_advisory_unlock_all(). A tenant's session holds
-- no session lock, and bulkhead.lock() ends with its transaction: nothing is left that this could release.
-- reserved_functions() in 20-hygiene.sql leaves it out.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_unlock_all() TO PUBLIC;

