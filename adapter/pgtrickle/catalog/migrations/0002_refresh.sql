-- What every refresh says to the catalog, as functions: planning these statements costs several times what executing
-- them does, and a function keeps its plans for the session, also behind a pooler that keeps no prepared statements.

-- The stream tables asked for and all stream tables that they read, with everything a refresh has to know.
CREATE FUNCTION pgtrickle.refresh_group(relids oid[])
RETURNS TABLE (id bigint, relid oid, schema_name name, table_name name, registered_schema name, registered_name name,
               owner name, canonical_query text, settings jsonb, requested_mode text, effective_mode text,
               mode_reason text, status text, status_reason text, is_populated boolean, recompute_reason text,
               demoted boolean, consecutive_errors integer, last_error jsonb, retry_at timestamptz, definition jsonb,
               options jsonb, snapshot text, refresh_no bigint, consumed jsonb, cost jsonb, has_log boolean,
               sources jsonb, stages jsonb, columns jsonb, now timestamptz, session_role text, quoted_name text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE wanted (id) AS (
        SELECT st.id FROM pgtrickle.stream_tables st WHERE st.relid = ANY (relids)
        UNION
        SELECT d.source_stream_table_id FROM pgtrickle.dependencies d JOIN wanted w ON w.id = d.stream_table_id
        WHERE d.source_stream_table_id IS NOT NULL
    )
    SELECT st.id, st.relid, n.nspname AS schema_name, c.relname AS table_name,
           st.schema_name AS registered_schema, st.table_name AS registered_name,
           pg_get_userbyid(c.relowner) AS owner, st.canonical_query, st.settings, st.requested_mode,
           st.effective_mode, st.mode_reason, st.status, st.status_reason, st.is_populated, st.recompute_reason, st.demoted,
           st.consecutive_errors, st.last_error, st.retry_at, st.definition, st.options,
           f.snapshot::text AS snapshot, f.refresh_no, f.consumed, f.cost,
           EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = st.id) AS has_log,
           coalesce((
               SELECT jsonb_agg(jsonb_build_object(
                   'kind', d.kind, 'relid', d.relid::bigint, 'source_id', d.source_id,
                   'stream_table_id', d.source_stream_table_id, 'schema', dn.nspname, 'name', dc.relname,
                   'relkind', dc.relkind, 'rows', greatest(dc.reltuples, 0),
                   'above', (SELECT jsonb_agg(jsonb_build_array(an.nspname, ac.relname) ORDER BY ac.oid)
                             FROM pgtrickle.source_tables a
                             JOIN pg_class ac ON ac.oid = a.relid
                             JOIN pg_namespace an ON an.oid = ac.relnamespace
                             WHERE a.source_id = d.source_id AND a.place = 'ancestor')) ORDER BY d.relid)
               FROM pgtrickle.dependencies d
               LEFT JOIN pg_class dc ON dc.oid = d.relid
               LEFT JOIN pg_namespace dn ON dn.oid = dc.relnamespace
               WHERE d.stream_table_id = st.id AND d.kind IN ('table', 'stream_table', 'uncaptured')), '[]') AS sources,
           coalesce((
               SELECT jsonb_agg(jsonb_build_object(
                   'no', g.stage_no, 'output', g.output_table, 'state', g.state_table, 'log', g.log_table) ORDER BY g.stage_no)
               FROM pgtrickle.stages g WHERE g.stream_table_id = st.id), '[]') AS stages,
           coalesce((
               SELECT jsonb_object_agg(a.attname, a.attnum) FROM pg_attribute a
               WHERE a.attrelid = st.relid AND a.attnum > 0 AND NOT a.attisdropped), '{}') AS columns,
           now() AS now, current_user::text AS session_role,
           format('%I.%I', coalesce(n.nspname, st.schema_name), coalesce(c.relname, st.table_name)) AS quoted_name
    FROM wanted w
    JOIN pgtrickle.stream_tables st ON st.id = w.id
    JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
    LEFT JOIN pg_class c ON c.oid = st.relid
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    ORDER BY st.id;
END
$$;

-- Locks the frontiers of a group and reads what may have moved since the group was read. In REPEATABLE READ a frontier
-- that moved after the snapshot raises 40001. The facts of those that take part are compared here: what is as it was
-- recorded, which is nearly always so, is not sent. Only what a difference means is the engine's business.
CREATE FUNCTION pgtrickle.lock_group(ids bigint[], running bigint[])
RETURNS TABLE (id bigint, snapshot text, refresh_no bigint, consumed jsonb, cost jsonb, is_populated boolean,
               recompute_reason text, status text, demoted boolean, version text, has_log boolean, now_snapshot text,
               started_at text, fingerprint jsonb, same boolean, facts jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM pgtrickle.frontiers f WHERE f.stream_table_id = ANY (ids) ORDER BY f.stream_table_id FOR UPDATE;
    RETURN QUERY
    SELECT f.stream_table_id, f.snapshot::text, f.refresh_no, f.consumed, f.cost, st.is_populated, st.recompute_reason,
           st.status, st.demoted, st.definition ->> 'version',
           EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = st.id),
           pg_current_snapshot()::text,
           -- The definition's own DateStyle is in force by now, so the time is spelled out.
           to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           CASE WHEN NOT c.same THEN st.fingerprint END, c.same,
           CASE WHEN NOT c.same OR jsonb_path_exists(p.facts, '$.relations.*.family ? (@ != null)') THEN p.facts END
    FROM pgtrickle.frontiers f
    JOIN pgtrickle.stream_tables st ON st.id = f.stream_table_id
    LEFT JOIN pgtrickle.fingerprint(running) p ON p.stream_table_id = f.stream_table_id
    CROSS JOIN LATERAL (
        SELECT coalesce(
            st.is_populated AND st.fingerprint - '{xmax,frontier_xmax}'::text[] = p.facts - '{xmax,frontier_xmax}'::text[]
            AND p.facts ->> 'canary' IS NOT NULL
            AND (p.facts ->> 'xmax')::numeric >= greatest((st.fingerprint ->> 'xmax')::numeric,
                                                          (p.facts ->> 'frontier_xmax')::numeric), false)) AS c (same)
    WHERE f.stream_table_id = ANY (ids)
    ORDER BY f.stream_table_id;
END
$$;

-- Those of these stream tables whose facts are not as they were recorded; nothing is locked or written.
CREATE FUNCTION pgtrickle.drifted(ids bigint[])
RETURNS SETOF bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
-- Views and partitions are locked to be printed, and nobody waits for the answer.
SET lock_timeout = '50ms' AS $$
BEGIN
    RETURN QUERY
    SELECT st.id
    FROM pgtrickle.stream_tables st
    LEFT JOIN pgtrickle.fingerprint(ids) p ON p.stream_table_id = st.id
    WHERE st.id = ANY (ids)
      AND (st.fingerprint - '{xmax,frontier_xmax}'::text[] = p.facts - '{xmax,frontier_xmax}'::text[]
           AND p.facts ->> 'canary' IS NOT NULL
           AND (p.facts ->> 'xmax')::numeric >= greatest((st.fingerprint ->> 'xmax')::numeric,
                                                         (p.facts ->> 'frontier_xmax')::numeric)) IS NOT TRUE;
END
$$;

-- Ends a refresh: moves frontiers, forgets errors and requests of those that succeeded, adds to history and trail.
-- Stream tables and trail are written only where something changes, in most refreshes nowhere: a row that is not
-- touched needs neither a lock nor a new version.
CREATE FUNCTION pgtrickle.finish_group(members jsonb, settled jsonb, entries jsonb, trail jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    UPDATE pgtrickle.frontiers f
    SET snapshot = CASE WHEN n.moved THEN pg_current_snapshot() ELSE f.snapshot END,
        refresh_no = n.refresh_no,
        -- Where nothing had changed, the content equals the query at this later moment too.
        data_timestamp = transaction_timestamp(),
        consumed = n.consumed, cost = n.cost, last_refresh_at = transaction_timestamp()
    FROM jsonb_to_recordset(members) AS n (id bigint, moved boolean, refresh_no bigint, consumed jsonb, cost jsonb)
    WHERE f.stream_table_id = n.id;

    UPDATE pgtrickle.stream_tables s
    SET status = 'ACTIVE', status_reason = NULL, is_populated = true, recompute_reason = NULL, consecutive_errors = 0,
        last_error = NULL, retry_at = NULL, fingerprint = coalesce(n.fingerprint, s.fingerprint)
    FROM jsonb_to_recordset(settled) AS n (id bigint, fingerprint jsonb)
    WHERE s.id = n.id
      AND (s.status <> 'ACTIVE' OR NOT s.is_populated OR s.recompute_reason IS NOT NULL OR s.consecutive_errors <> 0
           OR s.last_error IS NOT NULL OR s.retry_at IS NOT NULL OR s.status_reason IS NOT NULL
           OR n.fingerprint IS NOT NULL);

    PERFORM pgtrickle.record_group(entries, trail);
END
$$;

-- Adds to the history, and to the trail where a gate has decided otherwise than the last time.
CREATE FUNCTION pgtrickle.record_group(entries jsonb, trail jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO pgtrickle.refresh_history (stream_table_id, schema_name, table_name, refresh_no, group_id, started_at,
        finished_at, action, reason, rows_inserted, rows_updated, rows_deleted, changes, duration_ms, snapshot,
        initiated_by, error)
    SELECT n.stream_table_id, n.schema_name, n.table_name, n.refresh_no, n.group_id, n.started_at, clock_timestamp(),
           n.action, n.reason, n.rows_inserted, n.rows_updated, n.rows_deleted, n.changes, n.duration_ms, n.snapshot,
           n.initiated_by, n.error
    FROM jsonb_to_recordset(entries) AS n (stream_table_id bigint, schema_name name, table_name name,
        refresh_no bigint, group_id text, started_at timestamptz, action text, reason text, rows_inserted bigint,
        rows_updated bigint, rows_deleted bigint, changes bigint, duration_ms double precision, snapshot text,
        initiated_by text, error jsonb);

    INSERT INTO pgtrickle.gate_trail AS t (stream_table_id, gate, position, decision, reason, at)
    SELECT n.stream_table_id, n.gate, n.position, n.decision, n.reason, now()
    FROM jsonb_to_recordset(trail)
         AS n (stream_table_id bigint, gate text, position integer, decision text, reason text)
    WHERE NOT EXISTS (
        SELECT FROM pgtrickle.gate_trail o
        WHERE o.stream_table_id = n.stream_table_id AND o.gate = n.gate
          AND (o.decision, o.reason) IS NOT DISTINCT FROM (n.decision, n.reason))
    ON CONFLICT (stream_table_id, gate) DO UPDATE
    SET decision = excluded.decision, reason = excluded.reason, position = excluded.position, at = excluded.at
    WHERE (t.decision, t.reason) IS DISTINCT FROM (excluded.decision, excluded.reason);
END
$$;

-- Ends a refresh that has changed its own sources (OIDs in the detail), before it can commit.
CREATE FUNCTION pgtrickle.refuse_own_writes(relids bigint[])
RETURNS void
LANGUAGE plpgsql STRICT
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the refresh itself changed its sources'
        USING ERRCODE = 'PT001', DETAIL = array_to_string(relids, ' ');
END
$$;

-- Plans are kept for the session, and catalogs grow: one that was made when they were small must not read all of them.
ALTER FUNCTION pgtrickle.fingerprint(bigint[]) SET enable_seqscan = off;
ALTER FUNCTION pgtrickle.fingerprint(bigint[]) SET enable_hashjoin = off;
ALTER FUNCTION pgtrickle.fingerprint(bigint[]) SET enable_mergejoin = off;

-- A runner does not write to every stream table that is due but has no changes: it says once for all of them until when
-- it knows that, and which ones it does not speak of.
ALTER TABLE pgtrickle.runners ADD COLUMN checked_at timestamptz, ADD COLUMN unchecked bigint[] NOT NULL DEFAULT '{}';

CREATE OR REPLACE VIEW pgtrickle.stream_tables_info AS
SELECT st.id, coalesce(n.nspname, st.schema_name) AS schema, coalesce(c.relname, st.table_name) AS name, st.relid, st.status, st.status_reason,
       st.requested_mode, st.effective_mode AS mode, st.mode_reason, st.schedule, st.is_populated,
       st.recompute_reason, st.consecutive_errors, st.last_error ->> 'message' AS last_error, st.retry_at,
       f.refresh_no, greatest(f.data_timestamp, k.checked_at) AS data_timestamp, f.last_refresh_at,
       now() - greatest(f.last_refresh_at, k.checked_at) AS staleness,
       CASE WHEN st.schedule_seconds IS NULL THEN NULL
            ELSE coalesce(extract(epoch FROM now() - greatest(f.last_refresh_at, k.checked_at))
                          > 2 * st.schedule_seconds, true)
       END AS stale,
       st.query, st.created_at, st.altered_at
FROM pgtrickle.stream_tables st
LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
LEFT JOIN LATERAL (
    SELECT max(r.checked_at) AS checked_at FROM pgtrickle.runners r
    WHERE st.id <> ALL (r.unchecked) AND f.last_refresh_at IS NOT NULL) k ON true
LEFT JOIN pg_catalog.pg_class c ON c.oid = st.relid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;

-- Trims all change buffers and logs in one message, each in a transaction of its own. What somebody else is working on is
-- skipped. `report`: what is left of each change buffer that was not empty, the number of log rows deleted, and the
-- sources that nobody reads. A procedure that commits can have no settings of its own, so that names are written out.
CREATE PROCEDURE pgtrickle.trim(INOUT report jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    one jsonb;
    several jsonb[];
    held bigint;
    gone bigint;
    trimmed jsonb := '[]';
    log_rows bigint := 0;
BEGIN
    INSERT INTO pgtrickle.canary (token) VALUES (pg_catalog.gen_random_uuid()::text) ON CONFLICT DO NOTHING;
    SELECT pg_catalog.array_agg(pg_catalog.jsonb_build_object('id', s.id, 'name', c.oid::pg_catalog.regclass) ORDER BY s.id)
    INTO several
    FROM pgtrickle.sources s
    JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgtrickle_changes'::pg_catalog.regnamespace
         AND c.relname = pg_catalog.concat('b_', s.id)::name
    WHERE pg_catalog.pg_relation_size(c.oid) > 0
      AND EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id);
    FOREACH one IN ARRAY coalesce(several, '{}') LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        PERFORM FROM pgtrickle.sources s WHERE s.id = (one ->> 'id')::bigint FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND OR pg_catalog.to_regclass(one ->> 'name') IS NULL;
        -- One statement, so that consumers and rows are seen through one snapshot. A consumer whose frontier is NULL is
        -- loading: its row was committed before its snapshot was taken, so it has to hold back everything. What is
        -- below the xmin of every frontier is visible to all of them; only the rest is asked for one by one.
        EXECUTE pg_catalog.concat('WITH consumers AS MATERIALIZED (
            SELECT f.snapshot
            FROM pgtrickle.dependencies d
            JOIN pgtrickle.stream_tables st ON st.id = d.stream_table_id AND NOT st.demoted
            LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
            WHERE d.source_id = $1
        )
        DELETE FROM ', one ->> 'name', ' b
        WHERE b.__x < (
            SELECT CASE WHEN pg_catalog.bool_and(c.snapshot IS NOT NULL)
                        THEN pg_catalog.min(pg_catalog.pg_snapshot_xmin(c.snapshot)::text::pg_catalog.numeric)
                             ::text::pg_catalog.xid8 END
            FROM consumers c)
        OR NOT EXISTS (
            SELECT FROM consumers c
            WHERE c.snapshot IS NULL OR NOT pg_catalog.pg_visible_in_snapshot(b.__x, c.snapshot))')
        USING (one ->> 'id')::bigint;
        GET DIAGNOSTICS gone = ROW_COUNT;
        trimmed := pg_catalog.jsonb_insert(trimmed, '{0}', pg_catalog.jsonb_build_object(
            'id', one -> 'id', 'deleted', gone,
            'bytes', pg_catalog.pg_relation_size((one ->> 'name')::pg_catalog.regclass)));
    END LOOP;
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SELECT pg_catalog.array_agg(pg_catalog.jsonb_build_object('id', l.id, 'name', l.oid::pg_catalog.regclass, 'own', l.own)
                                ORDER BY l.id)
    INTO several
    FROM (SELECT st.id, c.oid, false AS own
          FROM pgtrickle.stream_tables st
          JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgtrickle_changes'::pg_catalog.regnamespace
               AND c.relname = pg_catalog.concat('o_', st.id)::name
          UNION ALL
          SELECT g.stream_table_id, c.oid, true
          FROM pgtrickle.stages g
          JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgtrickle_state'::pg_catalog.regnamespace
               AND c.relname = g.log_table) AS l
    WHERE pg_catalog.pg_relation_size(l.oid) > 0;
    FOREACH one IN ARRAY coalesce(several, '{}') LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        PERFORM FROM pgtrickle.stream_tables st WHERE st.id = (one ->> 'id')::bigint FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND OR pg_catalog.to_regclass(one ->> 'name') IS NULL;
        IF (one ->> 'own')::boolean THEN
            -- Stages read it within the refresh that wrote it.
            SELECT f.refresh_no INTO held FROM pgtrickle.frontiers f WHERE f.stream_table_id = (one ->> 'id')::bigint;
        ELSE
            -- What all dependents have consumed; all of it if there is none.
            SELECT coalesce(pg_catalog.min(CASE WHEN d.stream_table_id IS NOT NULL
                                                THEN coalesce((f.consumed ->> s.relid::text)::bigint, -1) END), s.last)
            INTO held
            FROM (SELECT st.relid, f.refresh_no AS last FROM pgtrickle.stream_tables st
                  JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id WHERE st.id = (one ->> 'id')::bigint) s
            LEFT JOIN (pgtrickle.dependencies d
                       JOIN pgtrickle.stream_tables t ON t.id = d.stream_table_id AND NOT t.demoted
                       LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = t.id)
                 ON d.source_stream_table_id = (one ->> 'id')::bigint
            GROUP BY s.last;
        END IF;
        EXECUTE pg_catalog.concat('DELETE FROM ', one ->> 'name', ' WHERE __n <= $1') USING held;
        GET DIAGNOSTICS gone = ROW_COUNT;
        log_rows := log_rows + gone;
    END LOOP;
    report := pg_catalog.jsonb_build_object(
        'buffers', trimmed, 'log_rows', log_rows,
        'limit', (SELECT i.buffer_limit_bytes FROM pgtrickle.installation i),
        'unread', (SELECT coalesce(pg_catalog.array_agg(s.id), '{}') FROM pgtrickle.sources s
                   WHERE NOT EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)));
END
$$;
