-- What a refresh costs beside its delta.

-- `versions` as before, for what reads functions, types, views and the like.
ALTER FUNCTION pgtrickle.versions(bigint[]) RENAME TO versions_of_any;

-- Says for each stream table, in the order of `ids`, which versions of which rows what a refresh knows of it was read from;
-- NULL where that cannot be said. Nearly all read tables alone, of which all rows are looked for in one go: what takes time
-- is to begin a query, not to run it. A new version of a row has a number that no remembered text has, and a row that comes
-- or goes changes how many there are, so it does not matter which number is whose.
CREATE FUNCTION pgtrickle.versions(ids bigint[])
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF EXISTS (SELECT FROM pgtrickle.dependencies d
               WHERE d.stream_table_id = ANY (ids) AND d.kind NOT IN ('table', 'stream_table', 'uncaptured')) THEN
        RETURN pgtrickle.versions_of_any(ids);
    END IF;
    RETURN ARRAY (
        SELECT (
            SELECT concat(current_user, ' ', st.xmin, ' ', c.xmin, ' ', n.xmin, ' ', pg_get_userbyid(c.relowner), ' ')
            FROM pgtrickle.stream_tables st
            JOIN pg_class c ON c.oid = st.relid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE st.id = u.id AND st.fingerprint
                  - '{cluster,xmax,frontier_xmax,canary,relations,views,functions,types,operators,collations,text_search,casts,collation_version,meaning,own}'::text[] = '{}')
            || (
            SELECT string_agg(v.version, ' ') FROM (
                SELECT a.xmin::text FROM pgtrickle.stream_tables st
                JOIN pg_attribute a ON a.attrelid = st.relid AND a.attnum > 0 WHERE st.id = u.id
                UNION ALL
                SELECT g.xmin::text FROM pgtrickle.stream_tables st JOIN pg_trigger g ON g.tgrelid = st.relid WHERE st.id = u.id
                UNION ALL
                SELECT k.xmin::text FROM pg_cast k
                WHERE k.oid >= 16384 AND k.castsource < 16384 AND k.casttarget < 16384) AS v (version))
            || (
            SELECT CASE WHEN bool_and(e.version IS NOT NULL) THEN string_agg(e.version, ';') END
            FROM (
                -- Families have many rows in many places.
                SELECT CASE WHEN r.relkind <> 'p' AND NOT r.relispartition AND NOT r.relhassubclass THEN
                    concat(' ', d.xmin, ' ', r.xmin, ' ', m.xmin, ' ',
                           to_regclass(format('%I.%I', d.schema_name, d.object_name))::oid, ' ',
                           to_regclass(concat('pgtrickle_changes.b_', d.source_id))::oid, ' ',
                           CASE r.relpersistence WHEN 'u' THEN pgtrickle.canary() END, ' ')
                    || (
                    SELECT CASE WHEN bool_and(v.version IS NOT NULL) THEN string_agg(v.version, ' ') END
                    FROM (
                        SELECT CASE WHEN a.attgenerated = '' THEN a.xmin::text END
                        FROM pg_attribute a WHERE a.attrelid = d.relid AND a.attnum = ANY (d.columns)
                        UNION ALL
                        SELECT concat(g.xmin, ' ', p.xmin)
                        FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid WHERE g.tgrelid = d.relid
                        UNION ALL
                        SELECT i.xmin::text FROM pg_index i WHERE i.indrelid = d.relid
                        UNION ALL
                        SELECT s.xmin::text FROM pgtrickle.sources s WHERE s.id = d.source_id
                        UNION ALL
                        SELECT t.xmin::text FROM pgtrickle.source_tables t WHERE t.source_id = d.source_id
                        UNION ALL
                        SELECT NULL FROM pg_inherits h WHERE h.inhrelid = d.relid
                        UNION ALL
                        SELECT NULL FROM pg_subscription_rel b WHERE b.srrelid = d.relid
                        UNION ALL
                        SELECT '') AS v (version)) END AS version
                FROM pgtrickle.dependencies d
                LEFT JOIN pg_class r ON r.oid = d.relid
                LEFT JOIN pg_namespace m ON m.oid = r.relnamespace
                WHERE d.stream_table_id = u.id
                ORDER BY d.position) AS e)
        FROM unnest(ids) WITH ORDINALITY AS u (id, position)
        ORDER BY u.position);
END
$$;

-- Settings that are as they should be need not be set: nearly all are.
CREATE OR REPLACE FUNCTION pgtrickle.begin_group(
    engine integer, settings jsonb, ids bigint[], running bigint[], known text[], wanted jsonb)
RETURNS TABLE (id bigint, snapshot text, refresh_no bigint, consumed jsonb, cost jsonb, is_populated boolean,
               recompute_reason text, status text, demoted boolean, version text, has_log boolean, now_snapshot text,
               started_at text, fingerprint jsonb, same boolean, facts jsonb, versions text, windows jsonb)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pgtrickle.use_settings(engine, settings);
    RETURN QUERY SELECT l.* FROM pgtrickle.lock_group(ids, running, known, wanted) AS l;
END
$$;

-- The first thing that a refresh does. It has no settings of its own, or it could not change those of the transaction, so
-- that names are written out.
CREATE FUNCTION pgtrickle.use_settings(engine integer, settings jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF engine OPERATOR(pg_catalog.<>) (SELECT pg_catalog.max(m.version) FROM pgtrickle.schema_migrations m) THEN
        PERFORM pgtrickle.require_version(engine);
    END IF;
    PERFORM pg_catalog.set_config(s.key, s.value, true) FROM pg_catalog.jsonb_each_text(settings) AS s
    WHERE pg_catalog.current_setting(s.key, true) OPERATOR(pg_catalog.<>) s.value IS NOT FALSE;
    -- Read by the guard trigger of stream tables: only a refresh may write to them.
    PERFORM pg_catalog.set_config('pgtrickle.refreshing', pg_catalog.pg_backend_pid()::text, true);
    -- A delta looks up a few rows in tables that were written a moment ago, so their pages are in memory. With the
    -- default costs of a spinning disk the planner reads a whole state table instead of 3 % of it by its index.
    IF pg_catalog.current_setting('random_page_cost')::pg_catalog.float8 OPERATOR(pg_catalog.>) 1.1 THEN
        PERFORM pg_catalog.set_config('random_page_cost', '1.1', true);
    END IF;
END
$$;

-- Begins a refresh of one stream table of which the session knows all, and which statements a small window takes: they are
-- executed here, in the same message. Whatever is not as it was foreseen is told, and left to the engine.
-- `wanted`: its id. `known`: what `versions` has said of it. `counting`: the prepared statement that looks at the windows.
-- `ways`: OIDs of changed sources, as `counting` says them -> the prepared statements that apply such changes. `most`: rows
-- that a small window has at most.
-- `applied`: seven numbers for each of the statements. `took`: milliseconds.
CREATE FUNCTION pgtrickle.begin_foreseen(
    engine integer, settings jsonb, wanted bigint, known text, counting text, ways jsonb, most bigint,
    OUT same boolean, OUT snapshot text, OUT refresh_no bigint, OUT consumed jsonb, OUT cost jsonb, OUT has_log boolean,
    OUT now_snapshot text, OUT started_at text, OUT changed text, OUT rows bigint, OUT marked boolean, OUT applied bigint[],
    OUT took double precision)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    since text;
    frontier pg_catalog.pg_snapshot;
    present pg_catalog.pg_snapshot := pg_catalog.pg_current_snapshot();
    statement text;
    counts record;
    began timestamptz;
BEGIN
    PERFORM pgtrickle.use_settings(engine, settings);
    SELECT l.same, l.snapshot, l.refresh_no, l.consumed, l.cost, l.has_log
    INTO same, frontier, refresh_no, consumed, cost, has_log
    FROM pgtrickle.lock_known(wanted, known) AS l;
    snapshot := frontier;
    now_snapshot := present;
    began := pg_catalog.clock_timestamp();
    -- The definition's own DateStyle is in force by now, so the time is spelled out.
    started_at := pg_catalog.to_char(began AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    IF same IS NOT TRUE OR frontier IS NULL THEN
        same := false;
        RETURN;
    END IF;
    since := pg_catalog.format('''%s'', ''%s'', ''%s'', ''%s''', pg_catalog.pg_snapshot_xmax(frontier),
                               ARRAY (SELECT pg_catalog.pg_snapshot_xip(frontier)),
                               pg_catalog.pg_snapshot_xmin(frontier), pg_catalog.pg_snapshot_xmax(present));
    EXECUTE pg_catalog.concat('EXECUTE ', counting, '(', since, ')') INTO changed, rows, marked;
    IF marked OR rows OPERATOR(pg_catalog.>=) most OR ways OPERATOR(pg_catalog.->) changed IS NULL THEN
        RETURN;
    END IF;
    applied := '{}';
    FOR statement IN SELECT w.value FROM pg_catalog.jsonb_array_elements_text(ways OPERATOR(pg_catalog.->) changed) AS w LOOP
        EXECUTE pg_catalog.concat('EXECUTE ', statement, '(', since, ', ', refresh_no OPERATOR(pg_catalog.+) 1, ')')
        INTO counts;
        applied := applied OPERATOR(pg_catalog.||) ARRAY[
            counts.deleted, counts.updated, counts.inserted,
            counts.expected_deleted, counts.expected_updated, counts.expected_inserted, counts.faults];
    END LOOP;
    took := extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.float8
            OPERATOR(pg_catalog.*) 1000;
END
$$;

-- Locks the frontier of one stream table; as `lock_group` where something is known. The versions are read before.
CREATE FUNCTION pgtrickle.lock_known(wanted bigint, known text, OUT same boolean, OUT snapshot pg_snapshot,
                                     OUT refresh_no bigint, OUT consumed jsonb, OUT cost jsonb, OUT has_log boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    same := known = (pgtrickle.versions(ARRAY[wanted]))[1];
    SELECT f.snapshot, f.refresh_no, f.consumed, f.cost,
           EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = wanted)
    INTO snapshot, refresh_no, consumed, cost, has_log
    FROM pgtrickle.frontiers f WHERE f.stream_table_id = wanted FOR UPDATE;
    same := coalesce(same AND FOUND, false);
END
$$;

-- As before; what nobody depends on is not asked.
CREATE OR REPLACE FUNCTION pgtrickle.finish_group(written jsonb, members jsonb, settled jsonb, entries jsonb, trail jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF written <> '{}' THEN
        PERFORM pgtrickle.refuse_own_writes(written);
    END IF;

    -- Functions and types are executed as they are at that moment, whatever the snapshot: some rows may have been computed
    -- by the old ones and some by the new ones.
    IF EXISTS (
        SELECT FROM jsonb_to_recordset(members) AS n (id bigint, moved boolean)
        JOIN pgtrickle.dependencies d ON d.stream_table_id = n.id AND d.kind IN ('function', 'type')
        WHERE n.moved) AND EXISTS (
        SELECT FROM jsonb_to_recordset(members) AS n (id bigint, moved boolean)
        JOIN pgtrickle.stream_tables st ON st.id = n.id
        WHERE n.moved AND EXISTS (SELECT FROM pgtrickle.dependencies d
                                  WHERE d.stream_table_id = st.id AND d.kind IN ('function', 'type'))
          AND pgtrickle.meaning(st.id) IS DISTINCT FROM coalesce(
              (SELECT x.fingerprint FROM jsonb_to_recordset(settled) AS x (id bigint, fingerprint jsonb)
               WHERE x.id = st.id AND x.fingerprint <> 'null'), st.fingerprint) ->> 'meaning')
    THEN
        RAISE EXCEPTION 'a function or type that the query uses was altered during the refresh'
            USING ERRCODE = 'serialization_failure';
    END IF;

    UPDATE pgtrickle.frontiers f
    SET snapshot = CASE WHEN n.moved THEN pg_current_snapshot() ELSE f.snapshot END,
        refresh_no = n.refresh_no,
        -- Where nothing had changed, the content equals the query at this later moment too.
        data_timestamp = transaction_timestamp(),
        consumed = n.consumed, cost = n.cost, last_refresh_at = transaction_timestamp()
    FROM jsonb_to_recordset(members) AS n (id bigint, moved boolean, refresh_no bigint, consumed jsonb, cost jsonb)
    WHERE f.stream_table_id = n.id;

    IF settled <> '[]' THEN
        UPDATE pgtrickle.stream_tables s
        SET status = 'ACTIVE', status_reason = NULL, is_populated = true, recompute_reason = NULL, consecutive_errors = 0,
            last_error = NULL, retry_at = NULL, fingerprint = coalesce(n.fingerprint, s.fingerprint)
        FROM jsonb_to_recordset(settled) AS n (id bigint, fingerprint jsonb)
        WHERE s.id = n.id
          AND (s.status <> 'ACTIVE' OR NOT s.is_populated OR s.recompute_reason IS NOT NULL OR s.consecutive_errors <> 0
               OR s.last_error IS NOT NULL OR s.retry_at IS NOT NULL OR s.status_reason IS NOT NULL
               OR n.fingerprint IS NOT NULL);
    END IF;

    IF entries <> '[]' OR trail <> '[]' THEN
        PERFORM pgtrickle.record_group(entries, trail);
    END IF;
END
$$;
