SELECT json_build_object('id', t.id, 'no', t.no, 'mode', t.mode, 'role', t.role, 'schema', t.schema, 'state', t.state)
FROM bulkhead.tenant t WHERE t.id = $1 AND t.state <> 'gone' ORDER BY t.no DESC LIMIT 1
