-- The catalog of pgtrickle. Small tables, updated often: room for HOT updates and an eager autovacuum.
-- Every table has a primary key, so that publications FOR ALL TABLES do not break our updates and deletes.


CREATE SCHEMA pgtrickle_changes;
CREATE SCHEMA pgtrickle_state;

CREATE TABLE pgtrickle.installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- A restored copy of the catalog must not trust the frontiers of the cluster it came from.
    system_identifier text NOT NULL,
    database_oid oid NOT NULL,
    engine_role name NOT NULL DEFAULT current_user,
    engine_version text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    -- Past this size a change buffer keeps one "recompute" mark per statement instead of rows.
    buffer_limit_bytes bigint NOT NULL DEFAULT 1073741824 CHECK (buffer_limit_bytes > 0),
    -- TRUNCATE of a table with at most this many rows is captured as rows, of a bigger one as a mark.
    truncate_rows integer NOT NULL DEFAULT 10000 CHECK (truncate_rows >= 0),
    history_retention interval NOT NULL DEFAULT '7 days'
);

-- One row that a crash of the server empties, and so shows that UNLOGGED sources were emptied too.
CREATE UNLOGGED TABLE pgtrickle.canary (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    token text NOT NULL
);

CREATE TABLE pgtrickle.stream_tables (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relid oid NOT NULL UNIQUE,
    schema_name name NOT NULL,
    table_name name NOT NULL,
    query text NOT NULL,
    canonical_query text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    requested_mode text NOT NULL CHECK (requested_mode IN ('AUTO', 'DIFFERENTIAL', 'FULL')),
    effective_mode text NOT NULL CHECK (effective_mode IN ('DIFFERENTIAL', 'FULL')),
    mode_reason text,
    schedule text,
    -- The age that the schedule promises; NULL where it promises none (cron, continuous, calculated).
    schedule_seconds double precision,
    status text NOT NULL DEFAULT 'INITIALIZING'
        CHECK (status IN ('INITIALIZING', 'ACTIVE', 'SUSPENDED', 'ERROR')),
    status_reason text,
    is_populated boolean NOT NULL DEFAULT false,
    -- Not NULL: the next refresh recomputes, for this reason.
    recompute_reason text,
    -- Too far behind: change buffers are trimmed without regard to this one until it rejoins.
    demoted boolean NOT NULL DEFAULT false,
    consecutive_errors integer NOT NULL DEFAULT 0,
    last_error jsonb,
    retry_at timestamptz,
    definition jsonb NOT NULL DEFAULT '{}',
    fingerprint jsonb,
    options jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    altered_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);

-- How far each stream table is. Every refresh locks its row and updates it, so two of them never apply one window.
CREATE TABLE pgtrickle.frontiers (
    stream_table_id bigint PRIMARY KEY REFERENCES pgtrickle.stream_tables ON DELETE CASCADE,
    snapshot pg_snapshot,
    refresh_no bigint NOT NULL DEFAULT 0,
    data_timestamp timestamptz,
    -- OID of a stream table that is read -> the last refresh number of it that was applied.
    consumed jsonb NOT NULL DEFAULT '{}',
    last_refresh_at timestamptz,
    -- What refreshes have cost so far, for the choice between FULL and DIFFERENTIAL.
    cost jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);

CREATE TABLE pgtrickle.sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relid oid NOT NULL UNIQUE,
    schema_name name NOT NULL,
    table_name name NOT NULL,
    capture text NOT NULL CHECK (capture IN ('rows', 'mark')),
    trigger_level text NOT NULL CHECK (trigger_level IN ('statement', 'row')),
    -- Attribute numbers of the source that the change buffer has.
    columns smallint[] NOT NULL DEFAULT '{}',
    -- Goes up whenever changes may have been missed: every consumer that has seen a lower number recomputes.
    generation bigint NOT NULL DEFAULT 0,
    -- If the source is a partition: what tells its rows in statements on the tables above it.
    partition_constraint text,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);

-- Where the triggers of a source are: on itself, its partitions and children ('own'), or above it ('ancestor').
CREATE TABLE pgtrickle.source_tables (
    source_id bigint NOT NULL REFERENCES pgtrickle.sources ON DELETE CASCADE,
    relid oid NOT NULL,
    place text NOT NULL CHECK (place IN ('own', 'ancestor')),
    -- Name of each of our triggers -> xmin of its row in pg_trigger: DISABLE and ENABLE move it.
    triggers jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (source_id, relid)
) WITH (fillfactor = 85);

-- What a stream table reads. From the moment a row with a source is committed it holds back the trimming of
-- that source's change buffer, also before the first load.
CREATE TABLE pgtrickle.dependencies (
    stream_table_id bigint NOT NULL REFERENCES pgtrickle.stream_tables ON DELETE CASCADE,
    position integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('table', 'stream_table', 'uncaptured', 'view', 'function', 'type')),
    relid oid NOT NULL,
    schema_name name NOT NULL,
    object_name text NOT NULL,
    source_id bigint REFERENCES pgtrickle.sources,
    source_stream_table_id bigint REFERENCES pgtrickle.stream_tables,
    columns smallint[] NOT NULL DEFAULT '{}',
    rows boolean NOT NULL DEFAULT true,
    PRIMARY KEY (stream_table_id, position),
    UNIQUE (stream_table_id, kind, relid)
) WITH (fillfactor = 85);
CREATE INDEX ON pgtrickle.dependencies (source_id);
CREATE INDEX ON pgtrickle.dependencies (source_stream_table_id);

-- Tables in pgtrickle_state that the stages of a plan own; NULL where a stage has none of that kind.
CREATE TABLE pgtrickle.stages (
    stream_table_id bigint NOT NULL REFERENCES pgtrickle.stream_tables ON DELETE CASCADE,
    stage_no integer NOT NULL,
    strategy text NOT NULL,
    output_table name,
    state_table name,
    log_table name,
    PRIMARY KEY (stream_table_id, stage_no)
) WITH (fillfactor = 85);

CREATE TABLE pgtrickle.refresh_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_table_id bigint NOT NULL,
    schema_name name NOT NULL,
    table_name name NOT NULL,
    refresh_no bigint,
    -- Members of one transaction share it.
    group_id text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    action text NOT NULL CHECK (action IN
        ('NO_DATA', 'DIFFERENTIAL', 'FULL', 'RECOMPUTE', 'INITIAL', 'SKIPPED', 'FAILED', 'DEFINITION')),
    reason text,
    rows_inserted bigint NOT NULL DEFAULT 0,
    rows_updated bigint NOT NULL DEFAULT 0,
    rows_deleted bigint NOT NULL DEFAULT 0,
    changes bigint,
    duration_ms double precision NOT NULL,
    snapshot text,
    initiated_by text NOT NULL,
    error jsonb
) WITH (autovacuum_vacuum_scale_factor = 0.1);
CREATE INDEX ON pgtrickle.refresh_history (stream_table_id, id);
CREATE INDEX ON pgtrickle.refresh_history (finished_at);

-- The latest decision of each gate: why a stream table was or was not refreshed.
CREATE TABLE pgtrickle.gate_trail (
    stream_table_id bigint NOT NULL REFERENCES pgtrickle.stream_tables ON DELETE CASCADE,
    gate text NOT NULL,
    position integer NOT NULL,
    decision text NOT NULL CHECK (decision IN ('PASS', 'HOLD', 'REFUSE')),
    reason text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_table_id, gate)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);

-- Implicit acts that the user has been told of.
CREATE TABLE pgtrickle.messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_table_id bigint NOT NULL REFERENCES pgtrickle.stream_tables ON DELETE CASCADE,
    code text NOT NULL,
    text text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON pgtrickle.messages (stream_table_id, code, md5(text));

CREATE TABLE pgtrickle.runners (
    runner_id text PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    engine_version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);

-- Which runner works on which stream table. A lease is no lock: the frontier row is. It only spreads the work.
CREATE TABLE pgtrickle.leases (
    stream_table_id bigint PRIMARY KEY REFERENCES pgtrickle.stream_tables ON DELETE CASCADE,
    runner_id text NOT NULL REFERENCES pgtrickle.runners ON DELETE CASCADE,
    acquired_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 100);

-- By the names the tables have now: a rename behind our back changes nothing else.
CREATE VIEW pgtrickle.stream_tables_info AS
SELECT st.id, coalesce(n.nspname, st.schema_name) AS schema, coalesce(c.relname, st.table_name) AS name, st.relid, st.status, st.status_reason,
       st.requested_mode, st.effective_mode AS mode, st.mode_reason, st.schedule, st.is_populated,
       st.recompute_reason, st.consecutive_errors, st.last_error ->> 'message' AS last_error, st.retry_at,
       f.refresh_no, f.data_timestamp, f.last_refresh_at, now() - f.last_refresh_at AS staleness,
       CASE WHEN st.schedule_seconds IS NULL THEN NULL
            ELSE coalesce(extract(epoch FROM now() - f.last_refresh_at) > 2 * st.schedule_seconds, true)
       END AS stale,
       st.query, st.created_at, st.altered_at
FROM pgtrickle.stream_tables st
LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
LEFT JOIN pg_catalog.pg_class c ON c.oid = st.relid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;

CREATE VIEW pgtrickle.stream_table_status AS
SELECT i.name::text AS name, i.schema::text AS schema, i.status,
       coalesce(i.stale, false) OR NOT i.is_populated AS stale,
       i.staleness, extract(epoch FROM i.staleness)::double precision AS staleness_seconds,
       i.consecutive_errors AS errors, i.last_error, i.mode,
       coalesce(i.status_reason, i.recompute_reason, i.mode_reason) AS reason,
       i.is_populated AS populated, i.schedule, i.last_refresh_at, i.data_timestamp
FROM pgtrickle.stream_tables_info i;

-- One row per stream table of that name (`name` or `schema.name`); for an unknown name one row that fails checks.
CREATE FUNCTION pgtrickle.stream_table_status(stream_table text) RETURNS SETOF pgtrickle.stream_table_status
LANGUAGE sql STABLE AS $$
    SELECT s.* FROM pgtrickle.stream_table_status s WHERE stream_table IN (s.name, s.schema || '.' || s.name)
    UNION ALL
    SELECT stream_table, NULL, 'NOT_FOUND', true, NULL, NULL, 0, NULL, NULL,
           'no stream table of this name is registered', false, NULL, NULL, NULL
    WHERE NOT EXISTS (SELECT FROM pgtrickle.stream_tables_info t
                      WHERE stream_table IN (t.name::text, t.schema || '.' || t.name))
$$;

CREATE VIEW pgtrickle.pg_stat_stream_tables AS
SELECT i.schema, i.name, i.status, i.mode, i.is_populated, i.schedule, i.staleness, i.stale, i.consecutive_errors,
       coalesce(h.total_refreshes, 0) AS total_refreshes,
       coalesce(h.successful_refreshes, 0) AS successful_refreshes,
       coalesce(h.failed_refreshes, 0) AS failed_refreshes,
       coalesce(h.rows_inserted, 0) AS total_rows_inserted,
       coalesce(h.rows_updated, 0) AS total_rows_updated,
       coalesce(h.rows_deleted, 0) AS total_rows_deleted,
       h.avg_duration_ms, l.action AS last_refresh_action, l.reason AS last_refresh_reason,
       i.last_refresh_at, i.last_error
FROM pgtrickle.stream_tables_info i
LEFT JOIN LATERAL (
    SELECT count(*) AS total_refreshes,
           count(*) FILTER (WHERE action NOT IN ('FAILED', 'SKIPPED')) AS successful_refreshes,
           count(*) FILTER (WHERE action = 'FAILED') AS failed_refreshes,
           sum(r.rows_inserted) AS rows_inserted, sum(r.rows_updated) AS rows_updated,
           sum(r.rows_deleted) AS rows_deleted, avg(r.duration_ms) AS avg_duration_ms
    FROM pgtrickle.refresh_history r
    WHERE r.stream_table_id = i.id AND r.action <> 'DEFINITION') h ON true
LEFT JOIN LATERAL (
    SELECT r.action, r.reason FROM pgtrickle.refresh_history r
    WHERE r.stream_table_id = i.id AND r.action <> 'DEFINITION' ORDER BY r.id DESC LIMIT 1) l ON true;

CREATE VIEW pgtrickle.quick_health AS
SELECT count(*) AS total_stream_tables,
       count(*) FILTER (WHERE status = 'ACTIVE') AS active_tables,
       count(*) FILTER (WHERE status = 'ERROR' OR consecutive_errors > 0) AS error_tables,
       count(*) FILTER (WHERE status = 'SUSPENDED') AS suspended_tables,
       count(*) FILTER (WHERE stale) AS stale_tables,
       count(*) FILTER (WHERE NOT is_populated) AS unpopulated_tables,
       (SELECT count(*) FROM pgtrickle.runners WHERE heartbeat_at > now() - interval '1 minute') AS live_runners,
       CASE WHEN count(*) = 0 THEN 'EMPTY'
            WHEN bool_or(status IN ('SUSPENDED', 'ERROR')) THEN 'CRITICAL'
            WHEN bool_or(coalesce(stale, false) OR consecutive_errors > 0 OR NOT is_populated) THEN 'WARNING'
            ELSE 'OK' END AS status
FROM pgtrickle.stream_tables_info;


-- The guard of every stream table, called when somebody other than a refresh writes to it (its trigger's WHEN clause).
CREATE FUNCTION pgtrickle.refuse_write() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'cannot % stream table %.%', lower(TG_OP), quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'Its content follows from its defining query; pgtrickle maintains it.',
              HINT = 'Change its sources or its defining query, or release it to make it an ordinary table.';
END $$;

-- Facts about what stream tables read that change answers without leaving a change row. A function, because names
-- are printed by the search_path (fixed here), and because its plan, which takes ten times as long to make as to
-- execute, is kept for the session.
CREATE FUNCTION pgtrickle.fingerprint(stream_table_ids bigint[])
RETURNS TABLE (stream_table_id bigint, facts jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT f.stream_table_id, jsonb_build_object(
        'cluster', (SELECT s.system_identifier || '/' || d.oid FROM pg_control_system() s, pg_database d
                    WHERE d.datname = current_database()),
        'xmax', pg_snapshot_xmax(pg_current_snapshot())::text,
        'frontier_xmax', pg_snapshot_xmax(f.snapshot)::text,
        'canary', (SELECT c.token FROM pgtrickle.canary c),
        'relations', coalesce((
            SELECT jsonb_object_agg(d.relid::text, jsonb_build_object(
                'kind', d.kind,
                'recorded_name', format('%I.%I', d.schema_name, d.object_name),
                'name', CASE WHEN c.oid IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END,
                'named', to_regclass(format('%I.%I', d.schema_name, d.object_name))::oid::text,
                'relkind', c.relkind, 'persistence', c.relpersistence,
                'row_security', c.relrowsecurity::text || c.relforcerowsecurity::text,
                'columns', coalesce((
                    SELECT jsonb_object_agg(a.attnum::text, jsonb_build_object(
                        'name', a.attname, 'type', a.atttypid::text, 'typmod', a.atttypmod,
                        'collation', a.attcollation::text, 'not_null', a.attnotnull, 'generated', a.attgenerated,
                        'dropped', a.attisdropped, 'xmin', a.xmin::text))
                    FROM pg_attribute a WHERE a.attrelid = d.relid AND a.attnum = ANY (d.columns)), '{}'),
                'keys', coalesce((
                    SELECT jsonb_agg(k.columns ORDER BY k.columns)
                    FROM (SELECT DISTINCT i.indkey::text || '/' || i.indnkeyatts AS columns FROM pg_index i
                          WHERE i.indrelid = d.relid AND i.indisunique AND i.indisvalid AND i.indimmediate
                            AND i.indpred IS NULL AND i.indexprs IS NULL) k), '[]'),
                'family', CASE WHEN c.relkind = 'p' THEN (
                    SELECT string_agg(t.relid::oid::text, ' ' ORDER BY t.relid::oid) FROM pg_partition_tree(c.oid) t) END,
                'files', coalesce((
                    SELECT string_agg(p.relfilenode::text, ' ' ORDER BY p.oid)
                    FROM pgtrickle.source_tables t JOIN pg_class p ON p.oid = t.relid
                    WHERE t.source_id = d.source_id), c.relfilenode::text),
                'generation', s.generation,
                'captured', s.id IS NULL OR (
                    s.partition_constraint IS NOT DISTINCT FROM
                        CASE WHEN c.relispartition THEN pg_get_partition_constraintdef(c.oid) END
                    AND NOT EXISTS (
                        SELECT FROM pgtrickle.source_tables t CROSS JOIN jsonb_each_text(t.triggers) r
                        LEFT JOIN pg_trigger g ON g.tgrelid = t.relid AND g.tgname = r.key
                        WHERE t.source_id = s.id AND g.xmin::text IS DISTINCT FROM r.value)
                    AND NOT EXISTS (
                        WITH RECURSIVE own AS (
                            SELECT d.relid
                            UNION
                            SELECT i.inhrelid FROM own o
                            JOIN pg_inherits i ON i.inhparent = o.relid AND NOT i.inhdetachpending
                        ), above AS (
                            SELECT o.relid FROM own o
                            UNION
                            SELECT i.inhparent FROM above a
                            JOIN pg_inherits i ON i.inhrelid = a.relid AND NOT i.inhdetachpending
                        )
                        SELECT FROM above a FULL JOIN (
                            SELECT t.relid FROM pgtrickle.source_tables t WHERE t.source_id = s.id) t
                            ON t.relid = a.relid
                        WHERE a.relid IS NULL OR t.relid IS NULL)
                    AND (s.trigger_level = 'row') = EXISTS (
                        SELECT FROM pgtrickle.source_tables t JOIN pg_subscription_rel r ON r.srrelid = t.relid
                        WHERE t.source_id = s.id AND t.place = 'own'))))
            FROM pgtrickle.dependencies d
            LEFT JOIN pg_class c ON c.oid = d.relid
            LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pgtrickle.sources s ON s.id = d.source_id
            WHERE d.stream_table_id = f.stream_table_id AND d.kind IN ('table', 'stream_table', 'uncaptured')), '{}'),
        'views', coalesce((
            SELECT jsonb_object_agg(v.name, pg_get_viewdef(to_regclass(v.name)::oid))
            FROM pgtrickle.dependencies d
            CROSS JOIN LATERAL (SELECT format('%I.%I', d.schema_name, d.object_name)) AS v (name)
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'view'), '{}'),
        'functions', coalesce((
            SELECT jsonb_object_agg(d.relid::text, jsonb_build_array(
                d.object_name, p.prosrc, p.probin, p.provolatile, p.proisstrict, p.proconfig, p.prolang::text,
                pg_get_function_sqlbody(p.oid), p.oid IS NOT NULL))
            FROM pgtrickle.dependencies d LEFT JOIN pg_proc p ON p.oid = d.relid
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'function'), '{}'),
        'types', coalesce((
            SELECT jsonb_object_agg(d.relid::text, (
                SELECT coalesce(jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
                FROM pg_enum e WHERE e.enumtypid = d.relid))
            FROM pgtrickle.dependencies d
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'type'), '{}'))
    FROM pgtrickle.frontiers f
    WHERE f.stream_table_id = ANY (stream_table_ids)
    ORDER BY f.stream_table_id;
END
$$;
