-- The state of stream tables as the public API returns it.

-- name: fetch_overview
SELECT pg_catalog.format('%%I.%%I', coalesce(n.nspname, i.schema), coalesce(c.relname, i.name)) AS name,
       coalesce(n.nspname, i.schema) AS schema, coalesce(c.relname, i.name) AS table, i.relid::bigint AS relid,
       CASE WHEN c.oid IS NULL THEN 'ERROR' ELSE i.status END AS status,
       i.requested_mode AS refresh_mode, i.mode AS effective_mode, i.mode_reason, coalesce(i.schedule, '') AS schedule,
       i.is_populated,
       coalesce(i.stale, false) OR NOT i.is_populated OR i.consecutive_errors > 0 OR c.oid IS NULL AS stale,
       extract(epoch FROM i.staleness)::double precision AS staleness_seconds, i.last_refresh_at, i.data_timestamp,
       i.consecutive_errors,
       CASE WHEN c.oid IS NULL THEN 'the table was dropped without drop_stream_table' ELSE i.last_error END AS last_error,
       i.retry_at
FROM pgtrickle.stream_tables_info i
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = i.relid
WHERE %(id)s::bigint IS NULL OR i.id = %(id)s
ORDER BY 2, 3

-- name: fetch_edges
SELECT source.relid::bigint AS source, dependent.relid::bigint AS dependent
FROM pgtrickle.dependencies d
JOIN pgtrickle.stream_tables source ON source.id = d.source_stream_table_id
JOIN pgtrickle.stream_tables dependent ON dependent.id = d.stream_table_id
ORDER BY 1, 2

-- name: fetch_grant
SELECT pg_catalog.format('GRANT %%I TO %%I', pg_catalog.pg_get_userbyid(n.nspowner), current_user)
FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle'
