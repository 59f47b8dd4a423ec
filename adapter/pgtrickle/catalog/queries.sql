-- Every statement on the engine's own tables.

-- name: insert_stream_table
WITH new AS (
    INSERT INTO pgtrickle.stream_tables (relid, schema_name, table_name, query, canonical_query, settings,
        requested_mode, effective_mode, mode_reason, schedule, schedule_seconds, definition, options)
    VALUES (%(relid)s, %(schema_name)s, %(table_name)s, %(query)s, %(canonical_query)s, %(settings)s,
        %(requested_mode)s, %(effective_mode)s, %(mode_reason)s, %(schedule)s, %(schedule_seconds)s,
        %(definition)s, %(options)s)
    RETURNING id), frontier AS (
    INSERT INTO pgtrickle.frontiers (stream_table_id) SELECT id FROM new)
SELECT id FROM new

-- The next four return the name that the table has now, after the registered one: the later column wins.
-- name: fetch_stream_tables
SELECT st.*, coalesce(n.nspname, st.schema_name) AS schema_name, coalesce(c.relname, st.table_name) AS table_name
FROM pgtrickle.stream_tables st
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
ORDER BY st.id

-- name: stream_table_ids
SELECT st.id FROM pgtrickle.stream_tables st

-- name: fetch_stream_table
SELECT st.*, coalesce(n.nspname, st.schema_name) AS schema_name, coalesce(c.relname, st.table_name) AS table_name
FROM pgtrickle.stream_tables st
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
WHERE st.id = %(id)s

-- name: fetch_stream_table_by_relid
SELECT st.*, coalesce(n.nspname, st.schema_name) AS schema_name, coalesce(c.relname, st.table_name) AS table_name
FROM pgtrickle.stream_tables st
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
WHERE st.relid = %(relid)s

-- name: fetch_stream_table_by_name
SELECT st.*, coalesce(n.nspname, st.schema_name) AS schema_name, coalesce(c.relname, st.table_name) AS table_name
FROM pgtrickle.stream_tables st
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
WHERE (coalesce(n.nspname, st.schema_name), coalesce(c.relname, st.table_name))
    = (%(schema_name)s::name, %(table_name)s::name)

-- name: request_recompute
UPDATE pgtrickle.stream_tables SET recompute_reason = %(reason)s WHERE id = %(id)s AND recompute_reason IS NULL

-- name: request_recompute_of_all
UPDATE pgtrickle.stream_tables SET recompute_reason = %(reason)s WHERE recompute_reason IS NULL

-- name: plant_frontier
INSERT INTO pgtrickle.frontiers (stream_table_id) VALUES (%(id)s) ON CONFLICT DO NOTHING

-- name: delete_stream_table
DELETE FROM pgtrickle.stream_tables WHERE id = %(id)s

-- name: fetch_sources
SELECT id, relid, schema_name, table_name, capture, trigger_level, columns, generation,
       partition_constraint, epoch FROM pgtrickle.sources ORDER BY relid

-- name: fetch_sources_of
SELECT id, relid, schema_name, table_name, capture, trigger_level, columns, generation,
       partition_constraint, epoch
FROM pgtrickle.sources s
WHERE EXISTS (SELECT FROM pgtrickle.dependencies d
              WHERE d.source_id = s.id AND d.stream_table_id = ANY (%(ids)s::bigint[]))
ORDER BY relid

-- name: upsert_source
INSERT INTO pgtrickle.sources (relid, schema_name, table_name, capture, trigger_level)
VALUES (%(relid)s, %(schema_name)s, %(table_name)s, 'mark', 'statement')
ON CONFLICT (relid) DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name
WHERE (sources.schema_name, sources.table_name) <> (excluded.schema_name, excluded.table_name)

-- name: lock_source
SELECT id, relid, schema_name, table_name, capture, trigger_level, columns, generation,
       partition_constraint, epoch
FROM pgtrickle.sources WHERE relid = %(relid)s FOR UPDATE

-- name: lock_source_by_id
SELECT id, relid, schema_name, table_name, capture, trigger_level, columns, generation,
       partition_constraint, epoch
FROM pgtrickle.sources WHERE id = %(id)s FOR UPDATE

-- name: lock_source_or_skip
SELECT id, relid, schema_name, table_name, capture, trigger_level, columns, generation,
       partition_constraint, epoch
FROM pgtrickle.sources WHERE id = %(id)s FOR UPDATE SKIP LOCKED

-- name: update_source
UPDATE pgtrickle.sources
SET capture = %(capture)s, trigger_level = %(trigger_level)s, columns = %(columns)s::smallint[],
    generation = %(generation)s, partition_constraint = %(partition_constraint)s, epoch = %(epoch)s
WHERE id = %(id)s

-- name: delete_source
WITH over AS (DELETE FROM pgtrickle.overflows WHERE source_id = %(id)s)
DELETE FROM pgtrickle.sources WHERE id = %(id)s

-- name: fetch_source_tables
SELECT relid, place, attached, triggers FROM pgtrickle.source_tables WHERE source_id = %(id)s ORDER BY relid

-- name: upsert_source_tables
INSERT INTO pgtrickle.source_tables (source_id, relid, place, attached, triggers)
SELECT %(id)s, t.relid, t.place, t.attached, t.triggers
FROM pg_catalog.jsonb_to_recordset(%(tables)s::jsonb) AS t (relid oid, place text, attached text, triggers jsonb)
ON CONFLICT (source_id, relid) DO UPDATE
SET place = excluded.place, attached = excluded.attached, triggers = excluded.triggers

-- name: upsert_source_tables_with_present_triggers
WITH found AS ({triggers})
INSERT INTO pgtrickle.source_tables (source_id, relid, place, attached, triggers)
SELECT %(id)s, t.relid, t.place, t.attached,
       coalesce((SELECT pg_catalog.jsonb_object_agg(f.name, f.xmin) FROM found f WHERE f.relid = t.relid), '{{}}')
FROM pg_catalog.jsonb_to_recordset(%(tables)s::jsonb) AS t (relid oid, place text, attached text)
ON CONFLICT (source_id, relid) DO UPDATE
SET place = excluded.place, attached = excluded.attached, triggers = excluded.triggers

-- name: delete_source_tables
DELETE FROM pgtrickle.source_tables WHERE source_id = %(id)s AND relid <> ALL (%(keep)s::oid[])

-- name: overflowed
SELECT EXISTS (SELECT FROM pgtrickle.overflows WHERE source_id = %(id)s)

-- name: end_overflow
-- Writers and refreshes are kept out by now. Somebody who only reads, pg_dump for hours, must not hold us up.
WITH over AS (DELETE FROM pgtrickle.overflows WHERE source_id = %(id)s)
SELECT pgtrickle.empty_buffer('pgtrickle_changes.b_' || %(id)s::bigint, NULL, '{}')

-- name: fetch_neglected
-- Tables that refreshes fill with dead rows, and that nobody vacuums because autovacuum is off. Each once a minute at most: an
-- old transaction may keep the dead rows.
SELECT n.nspname AS schema_name, c.relname AS table_name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.current_setting('autovacuum') = 'off' AND c.relkind = 'r'
  AND (n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state')
       OR c.oid IN (SELECT st.relid FROM pgtrickle.stream_tables st))
  AND pg_catalog.pg_stat_get_dead_tuples(c.oid) > 1000 + 0.2 * pg_catalog.pg_stat_get_live_tuples(c.oid)
  AND coalesce(pg_catalog.pg_stat_get_last_vacuum_time(c.oid) < pg_catalog.now() - interval '1 minute', true)
  AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
ORDER BY 1, 2

-- name: fetch_consumers
SELECT DISTINCT stream_table_id AS id FROM pgtrickle.dependencies WHERE source_id = %(id)s ORDER BY 1

-- name: source_needs
-- Columns of consumers that need no rows count too: where there are rows, an update that changes no column in the buffer
-- leaves none.
SELECT coalesce(array_agg(DISTINCT c.attnum) FILTER (WHERE c.attnum IS NOT NULL), '{}') AS columns,
       coalesce(bool_or(d.rows), false) AS rows, count(DISTINCT d.stream_table_id) AS consumers
FROM pgtrickle.dependencies d
LEFT JOIN LATERAL unnest(d.columns) AS c (attnum) ON true
WHERE d.source_id = %(id)s

-- name: fetch_dependencies
SELECT stream_table_id, position, kind, relid, schema_name, object_name, source_id, source_stream_table_id,
       columns, rows
FROM pgtrickle.dependencies
WHERE %(id)s::bigint IS NULL OR stream_table_id = %(id)s
ORDER BY stream_table_id, position

-- name: fetch_dependents
SELECT DISTINCT stream_table_id AS id FROM pgtrickle.dependencies WHERE source_stream_table_id = %(id)s ORDER BY 1

-- name: upsert_dependency
INSERT INTO pgtrickle.dependencies AS d (stream_table_id, position, kind, relid, schema_name, object_name,
    source_id, source_stream_table_id, columns, rows)
SELECT %(stream_table_id)s, coalesce(max(p.position) + 1, 0), %(kind)s, %(relid)s, %(schema_name)s, %(object_name)s,
       %(source_id)s, %(source_stream_table_id)s, %(columns)s::smallint[], %(rows)s
FROM pgtrickle.dependencies p WHERE p.stream_table_id = %(stream_table_id)s
ON CONFLICT (stream_table_id, kind, relid) DO UPDATE
SET schema_name = excluded.schema_name, object_name = excluded.object_name, source_id = excluded.source_id,
    source_stream_table_id = excluded.source_stream_table_id, rows = d.rows OR excluded.rows,
    columns = ARRAY (SELECT c FROM unnest(d.columns || excluded.columns) AS u (c) GROUP BY c ORDER BY c)

-- name: set_dependency
UPDATE pgtrickle.dependencies SET columns = %(columns)s::smallint[], rows = %(rows)s
WHERE stream_table_id = %(stream_table_id)s AND kind = %(kind)s AND relid = %(relid)s

-- name: delete_dependencies
DELETE FROM pgtrickle.dependencies WHERE stream_table_id = %(id)s AND kind = ANY (%(kinds)s::text[])

-- name: delete_dependency
DELETE FROM pgtrickle.dependencies
WHERE stream_table_id = %(stream_table_id)s AND kind = %(kind)s AND relid = %(relid)s

-- name: fetch_stages
SELECT stream_table_id, stage_no, strategy, output_table, state_table, log_table
FROM pgtrickle.stages WHERE stream_table_id = %(id)s ORDER BY stage_no

-- name: delete_stages
DELETE FROM pgtrickle.stages WHERE stream_table_id = %(id)s

-- name: insert_stage
INSERT INTO pgtrickle.stages (stream_table_id, stage_no, strategy, output_table, state_table, log_table)
VALUES (%(stream_table_id)s, %(stage_no)s, %(strategy)s, %(output_table)s, %(state_table)s, %(log_table)s)

-- name: clock
SELECT pg_catalog.clock_timestamp()

-- name: insert_history
INSERT INTO pgtrickle.refresh_history (stream_table_id, schema_name, table_name, refresh_no, group_id, started_at,
    finished_at, action, reason, rows_inserted, rows_updated, rows_deleted, changes, duration_ms, snapshot,
    initiated_by, error)
VALUES (%(stream_table_id)s, %(schema_name)s, %(table_name)s, %(refresh_no)s, %(group_id)s, %(started_at)s,
    %(finished_at)s, %(action)s, %(reason)s, %(rows_inserted)s, %(rows_updated)s, %(rows_deleted)s, %(changes)s,
    %(duration_ms)s, %(snapshot)s, %(initiated_by)s, %(error)s)
RETURNING id

-- name: fetch_history
SELECT stream_table_id, schema_name, table_name, started_at, finished_at, action, duration_ms, initiated_by,
       refresh_no, group_id, reason, rows_inserted, rows_updated, rows_deleted, changes, snapshot, error, id
FROM pgtrickle.refresh_history
WHERE (%(id)s::bigint IS NULL OR stream_table_id = %(id)s)
  AND (%(actions)s::text[] IS NULL OR action = ANY (%(actions)s::text[]))
ORDER BY id DESC LIMIT %(limit)s

-- name: prune_history
DELETE FROM pgtrickle.refresh_history h
WHERE h.finished_at < pg_catalog.now() - (SELECT history_retention FROM pgtrickle.installation)
  AND (EXISTS (SELECT FROM pgtrickle.refresh_history l WHERE l.stream_table_id = h.stream_table_id AND l.id > h.id)
       OR NOT EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.id = h.stream_table_id))

-- name: record_message
INSERT INTO pgtrickle.messages (stream_table_id, code, text) VALUES (%(id)s, %(code)s, %(text)s)
ON CONFLICT (stream_table_id, code, md5(text)) DO NOTHING

-- name: runner_beat
-- The snapshot is the one before this statement's own transaction id was assigned.
-- Nobody waits for the disk: what a crash loses of it says nothing that is still true after it.
INSERT INTO pgtrickle.runners AS r (runner_id, host, pid, engine_version, checked_at, unchecked)
SELECT %(runner_id)s, %(host)s, %(pid)s::integer, %(engine_version)s, NULL, '{}'
FROM pg_catalog.set_config('synchronous_commit', 'off', true)
ON CONFLICT (runner_id) DO UPDATE SET heartbeat_at = pg_catalog.now(),
    checked_at = CASE WHEN pg_catalog.pg_current_snapshot()::text = %(known)s THEN pg_catalog.now() ELSE r.checked_at END
RETURNING pg_catalog.now() AS now, pg_catalog.pg_current_snapshot()::text AS snapshot,
    pg_catalog.pg_current_xact_id()::text AS xid

-- name: current_snapshot
SELECT pg_catalog.pg_current_snapshot()::text

-- name: fetch_filled_buffers
-- A file without a page has no changes; looking for its size is much cheaper than looking into it.
SELECT pg_catalog.substr(c.relname, 3)::bigint AS id
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'pgtrickle_changes'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^b_[0-9]+$'
  AND pg_catalog.pg_relation_size(c.oid) > 0

-- name: drifted
SELECT id FROM pgtrickle.drifted(%(ids)s::bigint[]) AS d (id)

-- name: runner_checked
UPDATE pgtrickle.runners SET checked_at = %(at)s, unchecked = %(unchecked)s::bigint[]
FROM pg_catalog.set_config('synchronous_commit', 'off', true) WHERE runner_id = %(runner_id)s
RETURNING pg_catalog.pg_current_snapshot()::text AS snapshot, pg_catalog.pg_current_xact_id()::text AS xid

-- name: delete_runner
-- What it knew is kept: until then its stream tables were as their queries. If the clock was set back, nothing is known.
WITH gone AS (DELETE FROM pgtrickle.runners WHERE runner_id = %(runner_id)s RETURNING checked_at, unchecked)
UPDATE pgtrickle.frontiers f SET last_refresh_at = g.checked_at, data_timestamp = greatest(data_timestamp, g.checked_at)
FROM gone g
WHERE f.last_refresh_at < g.checked_at AND g.checked_at <= pg_catalog.clock_timestamp()
  AND f.stream_table_id <> ALL (g.unchecked)

-- name: delete_silent_runners
-- A heartbeat of the future is one of before the clock was set back.
DELETE FROM pgtrickle.runners
WHERE heartbeat_at NOT BETWEEN pg_catalog.now() - pg_catalog.make_interval(secs => %(older_than_s)s)
                           AND pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %(older_than_s)s)

-- name: acquire_leases
-- A runner that was taken for dead gets none until it has said that it lives. A lease that was acquired later than now
-- is one of before the clock was set back: it would last for ever.
WITH me AS (
    SELECT FROM pgtrickle.runners WHERE runner_id = %(runner_id)s FOR KEY SHARE
), wanted AS (
    SELECT st.id FROM me, pgtrickle.stream_tables st
    CROSS JOIN pg_catalog.set_config('synchronous_commit', 'off', true)
    WHERE st.id = ANY (%(ids)s::bigint[])
), takeable AS (
    SELECT l.stream_table_id AS id FROM pgtrickle.leases l JOIN wanted w ON w.id = l.stream_table_id
    WHERE l.runner_id = %(runner_id)s OR l.expires_at < pg_catalog.now()
       OR l.acquired_at > pg_catalog.clock_timestamp() + interval '1 second'
    ORDER BY l.stream_table_id FOR UPDATE OF l SKIP LOCKED
), taken AS (
    UPDATE pgtrickle.leases l
    SET runner_id = %(runner_id)s, acquired_at = pg_catalog.now(),
        expires_at = pg_catalog.now() + pg_catalog.make_interval(secs => %(seconds)s)
    FROM takeable t WHERE t.id = l.stream_table_id
    RETURNING l.stream_table_id
), fresh AS (
    INSERT INTO pgtrickle.leases (stream_table_id, runner_id, expires_at)
    SELECT w.id, %(runner_id)s, pg_catalog.now() + pg_catalog.make_interval(secs => %(seconds)s)
    FROM wanted w WHERE NOT EXISTS (SELECT FROM pgtrickle.leases l WHERE l.stream_table_id = w.id)
    ORDER BY w.id
    ON CONFLICT (stream_table_id) DO NOTHING
    RETURNING stream_table_id
)
SELECT stream_table_id AS id FROM taken UNION ALL SELECT stream_table_id FROM fresh

-- name: release_leases
DELETE FROM pgtrickle.leases USING pg_catalog.set_config('synchronous_commit', 'off', true)
WHERE runner_id = %(runner_id)s AND stream_table_id = ANY (%(ids)s::bigint[])

-- name: catalog_version
SELECT coalesce(max(version), 0) FROM pgtrickle.schema_migrations

-- name: record_migration
INSERT INTO pgtrickle.schema_migrations (version, name) VALUES (%(version)s, %(name)s)

-- name: record_installation
INSERT INTO pgtrickle.installation AS i
    (system_identifier, database_oid, catalog_oid, engine_version, buffer_limit_bytes)
SELECT s.system_identifier::text, d.oid, 'pgtrickle.installation'::pg_catalog.regclass, %(engine_version)s,
       coalesce(%(limit)s::bigint, 1073741824)
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
ON CONFLICT (singleton) DO UPDATE
SET engine_version = excluded.engine_version, buffer_limit_bytes = coalesce(%(limit)s::bigint, i.buffer_limit_bytes)
WHERE i.engine_version <> excluded.engine_version OR i.buffer_limit_bytes <> %(limit)s::bigint

-- name: fetch_installation
SELECT system_identifier, database_oid, engine_role, engine_version, installed_at, buffer_limit_bytes, truncate_rows,
       history_retention
FROM pgtrickle.installation

-- name: is_elsewhere
SELECT pgtrickle.is_elsewhere()

-- name: is_being_restored
-- Constraints come after all data. What several processes restore has no such order.
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                   WHERE k.conrelid = 'pgtrickle.dependencies'::pg_catalog.regclass AND k.contype = 'f')
    OR EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
               WHERE a.datname = pg_catalog.current_database() AND a.application_name = 'pg_restore')

-- name: rebind
SELECT pgtrickle.rebind()

-- name: plant_canary
INSERT INTO pgtrickle.canary (token) VALUES (pg_catalog.gen_random_uuid()::text) ON CONFLICT DO NOTHING

-- runner

-- name: fetch_schedule_states
SELECT pg_catalog.clock_timestamp() AS now, st.id, st.relid,
       pg_catalog.quote_ident(coalesce(n.nspname, st.schema_name)) || '.'
           || pg_catalog.quote_ident(coalesce(c.relname, st.table_name)) AS name,
       coalesce(st.schedule, 'calculated') AS schedule, st.status, st.is_populated, f.last_refresh_at, st.retry_at,
       st.last_error ->> 'message' AS last_error,
       NOT coalesce((st.definition ->> 'unwatched')::boolean, false)
           AND NOT coalesce('uncaptured' = ANY (d.kinds), false) AS watched,
       coalesce(d.source_ids, '{}') AS source_ids, coalesce(d.stream_table_ids, '{}') AS stream_table_ids,
       l.runner_id, l.expires_at,
       st.recompute_reason IS NOT NULL OR st.demoted OR c.oid IS NULL OR coalesce(d.behind, false)
           OR coalesce(d.source_ids && (SELECT array_agg(o.source_id) FROM pgtrickle.overflows o), false) AS pending
FROM (VALUES (0)) AS one (x)
LEFT JOIN pgtrickle.stream_tables st ON true
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
LEFT JOIN pgtrickle.leases l ON l.stream_table_id = st.id
     AND l.acquired_at <= pg_catalog.clock_timestamp() + interval '1 second'
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT p.kind) AS kinds,
           array_agg(DISTINCT p.source_id) FILTER (WHERE p.source_id IS NOT NULL) AS source_ids,
           array_agg(DISTINCT p.source_stream_table_id) FILTER (WHERE p.source_stream_table_id IS NOT NULL)
               AS stream_table_ids,
           -- A stream table that it reads has moved since it last looked.
           bool_or(o.refresh_no > coalesce((f.consumed ->> p.relid::text)::bigint, 0)) AS behind
    FROM pgtrickle.dependencies p LEFT JOIN pgtrickle.frontiers o ON o.stream_table_id = p.source_stream_table_id
    WHERE p.stream_table_id = st.id) d ON true
ORDER BY st.id

-- name: count_live_runners
SELECT count(*) FROM pgtrickle.runners
WHERE heartbeat_at BETWEEN pg_catalog.now() - interval '1 minute' AND pg_catalog.clock_timestamp() + interval '1 minute'

-- name: fetch_health_tables
SELECT pg_catalog.format('%%I.%%I', coalesce(n.nspname, st.schema_name), coalesce(c.relname, st.table_name)) AS name,
       st.status, st.status_reason, st.is_populated, st.consecutive_errors, st.last_error ->> 'message' AS last_error,
       coalesce(i.stale, false) AS stale, st.demoted, NOT st.definition ? 'shape' AS restored, st.recompute_reason
FROM pgtrickle.stream_tables st
JOIN pgtrickle.stream_tables_info i ON i.id = st.id
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
ORDER BY name

-- name: fetch_health_buffers
SELECT pg_catalog.format('%%I.%%I', s.schema_name, s.table_name) AS source,
       pg_catalog.pg_relation_size(c.oid) AS bytes, i.buffer_limit_bytes AS limit_bytes
FROM pgtrickle.installation i
CROSS JOIN pgtrickle.sources s
JOIN pg_catalog.pg_class c ON c.relname = 'b_' || s.id
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'pgtrickle_changes'
ORDER BY source

-- name: fetch_lineage_nodes
SELECT pg_catalog.format('%%I.%%I', coalesce(n.nspname, st.schema_name), coalesce(c.relname, st.table_name)) AS name,
       'stream_table' AS kind, coalesce(st.schedule, 'calculated') AS schedule, st.effective_mode AS mode, st.status
FROM pgtrickle.stream_tables st
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
UNION ALL
SELECT DISTINCT pg_catalog.format('%%I.%%I', d.schema_name, d.object_name), d.kind, NULL, NULL, NULL
FROM pgtrickle.dependencies d WHERE d.kind IN ('table', 'uncaptured')
ORDER BY kind DESC, name

-- name: fetch_lineage_edges
SELECT CASE WHEN s.id IS NULL THEN pg_catalog.format('%%I.%%I', d.schema_name, d.object_name)
            ELSE pg_catalog.format('%%I.%%I', coalesce(sn.nspname, s.schema_name), coalesce(sc.relname, s.table_name))
       END AS source,
       pg_catalog.format('%%I.%%I', coalesce(n.nspname, st.schema_name), coalesce(c.relname, st.table_name))
           AS dependent
FROM pgtrickle.dependencies d
JOIN pgtrickle.stream_tables st ON st.id = d.stream_table_id
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = st.relid
LEFT JOIN pgtrickle.stream_tables s ON s.id = d.source_stream_table_id
LEFT JOIN (pg_catalog.pg_class sc JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace) ON sc.oid = s.relid
WHERE d.kind IN ('table', 'uncaptured', 'stream_table')
ORDER BY 1, 2

-- name: buffer_size
SELECT pg_catalog.pg_relation_size(c.oid) AS bytes, i.buffer_limit_bytes AS limit_bytes
FROM pg_catalog.pg_class c, pgtrickle.installation i
WHERE c.oid = pg_catalog.to_regclass(%(buffer)s)

-- name: demote_furthest_behind
-- A locked frontier is being loaded or refreshed, and so catches up. One that was never loaded needs nothing yet.
WITH behind AS (
    SELECT f.stream_table_id AS id
    FROM pgtrickle.frontiers f
    WHERE EXISTS (SELECT FROM pgtrickle.dependencies d JOIN pgtrickle.stream_tables t ON t.id = d.stream_table_id
                  WHERE d.source_id = %(id)s AND d.stream_table_id = f.stream_table_id AND NOT t.demoted
                    AND (%(full)s OR t.status IN ('SUSPENDED', 'ERROR') OR t.consecutive_errors > 0))
    ORDER BY pg_catalog.pg_snapshot_xmax(f.snapshot) NULLS FIRST, f.stream_table_id
    LIMIT 1
    FOR UPDATE OF f SKIP LOCKED
), touched AS (
    -- A refresh whose snapshot is older than this does not see it, and must not take what is left for its window.
    UPDATE pgtrickle.frontiers f SET refresh_no = f.refresh_no FROM behind b WHERE f.stream_table_id = b.id
)
UPDATE pgtrickle.stream_tables st
SET demoted = true,
    recompute_reason = coalesce(st.recompute_reason, 'too far behind: a change buffer grew beyond its limit')
FROM behind b
WHERE st.id = b.id AND NOT st.demoted
RETURNING st.id

-- name: let_go
UPDATE pgtrickle.stream_tables
SET demoted = true, recompute_reason = coalesce(recompute_reason, 'it was let go, and its changes were not kept')
WHERE id = %(id)s

-- name: rejoin
UPDATE pgtrickle.stream_tables SET demoted = false WHERE id = ANY (%(ids)s::bigint[]) AND demoted RETURNING id

-- name: release_everything
-- Nobody refreshes what nothing is captured for any more. Who changes their mind resumes: then it is made anew.
WITH released AS (DELETE FROM pgtrickle.dependencies)
UPDATE pgtrickle.stream_tables
SET status = 'SUSPENDED', status_reason = 'being uninstalled', fingerprint = NULL, recompute_reason = 'it was being uninstalled',
    definition = definition - '{shape,checked}'::text[]
                 || pg_catalog.jsonb_build_object('version', pg_catalog.trunc(pg_catalog.random() * 1e15)::bigint)

-- name: fingerprint
SELECT stream_table_id, facts FROM pgtrickle.fingerprint(%(ids)s::bigint[])

-- name: hand_over
SELECT pgtrickle.hand_over()

-- name: missing_create
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %%I TO %%I', pg_catalog.current_database(), current_user)
WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
