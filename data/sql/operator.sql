-- What operators and the control plane call, and that a tenant may call none of it.
SELECT bulkhead.is_pool_role('bulkhead_pool'), bulkhead.is_pool_role('postgres');
SELECT bulkhead.key_file_problem() IS NULL AS key_file_is_good;
SELECT count(*) > 30 AS many, bool_and(f::text !~ 'unlock_all') AS without_unlock_all FROM bulkhead.reserved_functions() f;
SELECT head >= 0 AS head, oldest <= head + 1 AS oldest, suppressed >= 0 AS suppressed FROM bulkhead.audit_state();
SELECT count(*) FROM bulkhead.audit_read(9223372036854775807);
SELECT bool_and(severity IS NOT NULL AND problem IS NOT NULL) IS NOT FALSE AS rows_are_whole FROM bulkhead.lint();
SELECT bool_and(NOT has_function_privilege('bh_t42', p.oid, 'EXECUTE')) AS closed, count(*) > 10 AS many FROM pg_proc p
WHERE p.pronamespace = 'bulkhead'::regnamespace AND p.proname NOT IN ('enter', 'tenant_no', 'tenant_id', 'lock', 'try_lock');
