-- Statements of the refresh transaction, which reads and writes several of the catalog's tables in one go.

-- name: fetch_group
-- The stream tables asked for and all stream tables that they read, with everything a refresh has to know.
WITH RECURSIVE wanted (id) AS (
    SELECT st.id FROM pgtrickle.stream_tables st WHERE st.relid = ANY (%(relids)s::oid[])
    UNION
    SELECT d.source_stream_table_id FROM pgtrickle.dependencies d JOIN wanted w ON w.id = d.stream_table_id
    WHERE d.source_stream_table_id IS NOT NULL
)
SELECT st.id, st.relid, n.nspname AS schema_name, c.relname AS table_name,
       st.schema_name AS registered_schema, st.table_name AS registered_name,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner, st.canonical_query, st.settings, st.requested_mode,
       st.effective_mode, st.mode_reason, st.status, st.status_reason, st.is_populated, st.recompute_reason, st.demoted,
       st.consecutive_errors, st.last_error, st.retry_at, st.definition, st.fingerprint, st.options,
       f.snapshot::text AS snapshot, f.refresh_no, f.consumed, f.cost,
       EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = st.id) AS has_log,
       coalesce((
           SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'kind', d.kind, 'relid', d.relid::bigint, 'source_id', d.source_id,
               'stream_table_id', d.source_stream_table_id, 'schema', dn.nspname, 'name', dc.relname,
               'relkind', dc.relkind, 'rows', greatest(dc.reltuples, 0),
               'above', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(an.nspname, ac.relname) ORDER BY ac.oid)
                         FROM pgtrickle.source_tables a
                         JOIN pg_catalog.pg_class ac ON ac.oid = a.relid
                         JOIN pg_catalog.pg_namespace an ON an.oid = ac.relnamespace
                         WHERE a.source_id = d.source_id AND a.place = 'ancestor')) ORDER BY d.relid)
           FROM pgtrickle.dependencies d
           LEFT JOIN pg_catalog.pg_class dc ON dc.oid = d.relid
           LEFT JOIN pg_catalog.pg_namespace dn ON dn.oid = dc.relnamespace
           WHERE d.stream_table_id = st.id AND d.kind IN ('table', 'stream_table', 'uncaptured')), '[]') AS sources,
       coalesce((
           SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'no', g.stage_no, 'output', g.output_table, 'state', g.state_table, 'log', g.log_table) ORDER BY g.stage_no)
           FROM pgtrickle.stages g WHERE g.stream_table_id = st.id), '[]') AS stages,
       coalesce((
           SELECT pg_catalog.jsonb_object_agg(a.attname, a.attnum) FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = st.relid AND a.attnum > 0 AND NOT a.attisdropped), '{}') AS columns,
       pg_catalog.now() AS now, current_user::text AS session_role,
       pg_catalog.format('%%I.%%I', coalesce(n.nspname, st.schema_name), coalesce(c.relname, st.table_name)) AS quoted_name
FROM wanted w
JOIN pgtrickle.stream_tables st ON st.id = w.id
JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
LEFT JOIN pg_catalog.pg_class c ON c.oid = st.relid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY st.id

-- name: lock_group
-- In REPEATABLE READ a frontier that moved after the snapshot raises 40001. What the group was built from is read again.
SELECT f.stream_table_id AS id, f.snapshot::text AS snapshot, f.refresh_no, f.consumed, f.cost,
       st.is_populated, st.recompute_reason, st.status, st.demoted, st.fingerprint,
       st.definition ->> 'version' AS version,
       EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = st.id) AS has_log,
       pg_catalog.pg_current_snapshot()::text AS now_snapshot,
       -- The definition's own DateStyle is in force by now, so the time is spelled out.
       pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS started_at
FROM pgtrickle.frontiers f JOIN pgtrickle.stream_tables st ON st.id = f.stream_table_id
WHERE f.stream_table_id = ANY ({ids})
ORDER BY f.stream_table_id
FOR UPDATE OF f

-- name: touch_frontiers
-- Waits for the refreshes of these stream tables that are under way, and makes those that are about to begin start again.
UPDATE pgtrickle.frontiers SET refresh_no = refresh_no WHERE stream_table_id = ANY (%(ids)s)

-- name: advance_group
UPDATE pgtrickle.frontiers f
SET snapshot = CASE WHEN n.moved THEN pg_catalog.pg_current_snapshot() ELSE f.snapshot END,
    refresh_no = n.refresh_no,
    -- Where nothing had changed, the content equals the query at this later moment too.
    data_timestamp = pg_catalog.transaction_timestamp(),
    consumed = n.consumed, cost = n.cost, last_refresh_at = pg_catalog.transaction_timestamp()
FROM pg_catalog.jsonb_to_recordset({members})
     AS n (id bigint, moved boolean, refresh_no bigint, consumed jsonb, cost jsonb)
WHERE f.stream_table_id = n.id

-- name: settle_group
-- Writes only where something changes: in most refreshes nothing does.
UPDATE pgtrickle.stream_tables s
SET status = 'ACTIVE', status_reason = NULL, is_populated = true, recompute_reason = NULL, consecutive_errors = 0,
    last_error = NULL, retry_at = NULL, fingerprint = coalesce(n.fingerprint, s.fingerprint)
FROM pg_catalog.jsonb_to_recordset({members}) AS n (id bigint, fingerprint jsonb)
WHERE s.id = n.id
  AND (s.status <> 'ACTIVE' OR NOT s.is_populated OR s.recompute_reason IS NOT NULL OR s.consecutive_errors <> 0
       OR s.last_error IS NOT NULL OR s.retry_at IS NOT NULL OR s.status_reason IS NOT NULL OR n.fingerprint IS NOT NULL)

-- name: record_group
INSERT INTO pgtrickle.refresh_history (stream_table_id, schema_name, table_name, refresh_no, group_id, started_at,
    finished_at, action, reason, rows_inserted, rows_updated, rows_deleted, changes, duration_ms, snapshot, initiated_by,
    error)
SELECT n.stream_table_id, n.schema_name, n.table_name, n.refresh_no, n.group_id, n.started_at, pg_catalog.clock_timestamp(),
       n.action, n.reason, n.rows_inserted, n.rows_updated, n.rows_deleted, n.changes, n.duration_ms, n.snapshot,
       n.initiated_by, n.error
FROM pg_catalog.jsonb_to_recordset({entries}) AS n (stream_table_id bigint, schema_name name, table_name name,
    refresh_no bigint, group_id text, started_at timestamptz, action text, reason text, rows_inserted bigint,
    rows_updated bigint, rows_deleted bigint, changes bigint, duration_ms double precision, snapshot text,
    initiated_by text, error jsonb)

-- name: record_trail
INSERT INTO pgtrickle.gate_trail AS t (stream_table_id, gate, position, decision, reason, at)
SELECT n.stream_table_id, n.gate, n.position, n.decision, n.reason, pg_catalog.now()
FROM pg_catalog.jsonb_to_recordset({records})
     AS n (stream_table_id bigint, gate text, position integer, decision text, reason text)
ON CONFLICT (stream_table_id, gate) DO UPDATE
SET decision = excluded.decision, reason = excluded.reason, position = excluded.position, at = excluded.at
WHERE (t.decision, t.reason) IS DISTINCT FROM (excluded.decision, excluded.reason)

-- name: fail_member
UPDATE pgtrickle.stream_tables
SET consecutive_errors = consecutive_errors + 1, last_error = %(error)s,
    retry_at = pg_catalog.now() + %(delay)s::interval,
    status = coalesce(%(status)s, status), status_reason = coalesce(%(reason)s, status_reason)
WHERE id = %(id)s
