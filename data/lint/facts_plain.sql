WITH RECURSIVE installed(yes) AS (SELECT false),
tenant AS (SELECT NULL::int AS no, NULL::text AS mode, NULL::name AS role, NULL::name AS schema WHERE false),
pool AS (SELECT NULL::oid AS role WHERE false),
