-- The holes of this database: severity error, warning or info. A `fix` that begins with an upper-case word is SQL that
-- mends it; else it says what to do. The query is data/lint/: the command line runs it too where there is no extension.
CREATE FUNCTION bulkhead.lint() RETURNS TABLE (severity text, object text, problem text, fix text)
    -- Nested loops over catalogues without statistics took a minute where hashing takes a second.
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
AS $lint$
