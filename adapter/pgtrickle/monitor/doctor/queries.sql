-- What the doctor looks for, a statement for each check, which returns a row for each thing that is wrong:
-- object_name (what it is about), detail (what fills the check's sentence), target (what a repair needs to know).

-- name: source_missing
SELECT format('%I.%I', s.schema_name, s.table_name) AS object_name, s.relid::text AS detail, s.id::text AS target
FROM pgtrickle.sources s
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = s.relid)
  AND EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)

-- name: source_unread
SELECT format('%I.%I', s.schema_name, s.table_name) AS object_name, NULL AS detail, s.id::text AS target
FROM pgtrickle.sources s
WHERE s.created_at < now() - interval '1 minute'
  AND NOT EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)

-- name: source_replica_role
SELECT DISTINCT g.tgrelid::regclass::text AS object_name, NULL AS detail, NULL AS target
FROM pgtrickle.source_tables t
CROSS JOIN LATERAL jsonb_object_keys(t.triggers) AS k (name)
JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.relid AND g.tgname = k.name AND g.tgenabled IN ('O', 'R')

-- name: dependency_missing
-- What it read when it was refreshed last, and what the catalog does not list any more: its changes would not be looked at.
SELECT format('%I.%I', i.schema, i.name) AS object_name, coalesce(to_regclass(r.oid)::text, r.oid) AS detail,
       st.id::text AS target
FROM pgtrickle.stream_tables st
JOIN pgtrickle.stream_tables_info i ON i.id = st.id
CROSS JOIN LATERAL jsonb_object_keys(coalesce(st.fingerprint -> 'relations', '{}')) AS r (oid)
WHERE st.recompute_reason IS NULL
  AND NOT EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.stream_table_id = st.id AND d.relid::text = r.oid)

-- name: capture_unrecorded
SELECT format('%I.%I', s.schema_name, s.table_name) AS object_name, NULL AS detail, s.id::text AS target
FROM pgtrickle.sources s
WHERE s.created_at < now() - interval '10 minutes'
  AND EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)
  AND NOT EXISTS (SELECT FROM pgtrickle.source_tables t WHERE t.source_id = s.id)
  AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = s.relid)

-- name: capture_stopped
SELECT format('%I.%I', b.schema, b.name) AS object_name,
       format('%s of %s', pg_size_pretty(b.bytes), pg_size_pretty(b.limit_bytes)) AS detail,
       (SELECT s.id::text FROM pgtrickle.sources s WHERE s.relid = b.relid) AS target
FROM pgtrickle.change_buffers b WHERE b.stopped_since IS NOT NULL

-- name: consumer_behind
-- Whoever is not refreshed holds back the changes of its sources until they reach the limit.
SELECT format('%I.%I', i.schema, i.name) AS object_name,
       format('%s, its content is of %s', lower(i.status), coalesce(f.data_timestamp::timestamp(0)::text, 'never')) AS detail,
       st.id::text AS target
FROM pgtrickle.stream_tables st
JOIN pgtrickle.stream_tables_info i ON i.id = st.id
LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
WHERE NOT st.demoted AND st.status IN ('SUSPENDED', 'ERROR')
  AND coalesce(f.data_timestamp, st.created_at) < now() - interval '1 day'
  AND EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.stream_table_id = st.id AND d.source_id IS NOT NULL)

-- name: buffer_unlogged
SELECT c.oid::regclass::text AS object_name, NULL AS detail, c.oid::regclass::text AS target
FROM pg_catalog.pg_class c
WHERE (c.relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace
                          WHERE nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state'))
       OR EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = c.oid))
  AND c.relkind = 'r' AND c.relpersistence <> 'p' AND c.oid <> to_regclass('pgtrickle.canary')

-- name: schema_missing
SELECT n.name AS object_name, NULL AS detail, n.name AS target
FROM (VALUES ('pgtrickle_changes'), ('pgtrickle_state')) AS n (name) WHERE to_regnamespace(n.name) IS NULL

-- name: owner_changed
-- Everything of ours belongs to who owns the schema pgtrickle; functions of another role may write to nothing, and writers fail.
SELECT o.name AS object_name, pg_get_userbyid(o.owner)::text AS detail,
       format('ALTER %s %s OWNER TO %I', o.kind, o.name, pg_get_userbyid(own.nspowner)) AS target
FROM pg_catalog.pg_namespace own
CROSS JOIN LATERAL (
    SELECT 'SCHEMA' AS kind, quote_ident(n.nspname) AS name, n.nspowner AS owner
    FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state')
    UNION ALL
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state') AND c.relkind IN ('r', 'v')
    UNION ALL
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure::text, p.proowner
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state')) o
WHERE own.nspname = 'pgtrickle' AND o.owner <> own.nspowner

-- name: owner_rights
-- An owner can take rights from itself; a superuser has them all the same, until somebody else owns what it made.
SELECT c.oid::regclass::text AS object_name, pg_get_userbyid(c.relowner)::text AS detail,
       format('GRANT ALL ON %s TO %I', c.oid::regclass, pg_get_userbyid(c.relowner)) AS target
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state') AND c.relkind = 'r' AND c.relacl IS NOT NULL
  AND 5 > (SELECT count(DISTINCT a.privilege_type) FROM aclexplode(c.relacl) a
           WHERE a.grantee = c.relowner
             AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))

-- name: table_altered
-- Triggers, rules, policies and constraints that somebody else has put on a table of ours: what was written may not be there.
SELECT c.oid::regclass::text AS object_name, o.what AS detail, format(o.undo, c.oid::regclass) AS target
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT format('the trigger %I', t.tgname) AS what, format('DROP TRIGGER %I ON %%s', t.tgname) AS undo
    FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT format('the rule %I', r.rulename), format('DROP RULE %I ON %%s', r.rulename)
    FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND c.relkind = 'r'
    UNION ALL
    SELECT format('the constraint %I', k.conname), format('ALTER TABLE %%s DROP CONSTRAINT %I', k.conname)
    FROM pg_catalog.pg_constraint k
    WHERE k.conrelid = c.oid AND k.contype IN ('c', 'f') AND n.nspname <> 'pgtrickle'
    UNION ALL
    SELECT 'row level security', 'ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY'
    WHERE c.relrowsecurity OR c.relforcerowsecurity) o
WHERE n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state') AND c.relkind = 'r'

-- name: buffer_broken
-- Without these columns writers of the source fail.
SELECT c.oid::regclass::text AS object_name, NULL AS detail, s.id::text AS target
FROM pgtrickle.sources s
JOIN pg_catalog.pg_class c ON c.relname = 'b_' || s.id
     AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_changes')
WHERE EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)
  AND (c.relkind <> 'r'
       OR 2 > (SELECT count(*) FROM pg_catalog.pg_attribute a
               LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
               WHERE a.attrelid = c.oid
                 AND ((a.attname = '__x' AND a.atttypid = 'xid8'::regtype
                       AND pg_get_expr(d.adbin, d.adrelid) = 'pg_current_xact_id()')
                      OR (a.attname = '__w' AND a.atttypid = 'int2'::regtype)))
       -- The type of a column is neither that of the source's, nor was that another one when it was looked at last.
       OR EXISTS (SELECT FROM unnest(s.columns) AS n (number)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = s.relid AND a.attnum = n.number
                  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.typtype <> 'd'
                  JOIN pg_catalog.pg_attribute b ON b.attrelid = c.oid AND b.attname = 'c' || n.number
                  JOIN pgtrickle.dependencies d ON d.source_id = s.id
                  JOIN pgtrickle.stream_tables st ON st.id = d.stream_table_id
                  WHERE b.atttypid <> a.atttypid
                    AND st.fingerprint #>> ARRAY['relations', s.relid::text, 'columns', n.number::text, 'type']
                        = a.atttypid::text))

-- name: log_broken
-- Columns of a stream table that its output log does not have, or has as something else.
SELECT DISTINCT format('%I.%I', st.schema_name, st.table_name) AS object_name, l.oid::regclass::text AS detail,
       st.id::text AS target
FROM pgtrickle.stream_tables st
JOIN pg_catalog.pg_class l ON l.relname = 'o_' || st.id
     AND l.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_changes')
CROSS JOIN LATERAL (
    SELECT 'c' || a.attnum AS name, a.atttypid AS type FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = st.relid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL VALUES ('__n', 'int8'::regtype::oid), ('__w', 'int4'::regtype::oid)) w
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = l.oid AND a.attname = w.name AND a.atttypid = w.type AND NOT a.attisdropped)

-- name: replica_identity
-- Without one, a publication FOR ALL TABLES makes our own updates and deletes fail.
SELECT c.oid::regclass::text AS object_name, NULL AS detail, c.oid::regclass::text AS target
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relreplident <> 'f'
  AND (n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state')
       OR EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = c.oid))
  AND (c.relreplident = 'n'
       OR NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))

-- name: bloat
-- What vacuum has not got round to, or is not allowed to.
SELECT c.oid::regclass::text AS object_name,
       format('%s, %s live and %s dead rows', pg_size_pretty(pg_table_size(c.oid)), s.n_live_tup, s.n_dead_tup) AS detail,
       c.oid::regclass::text AS target
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND pg_table_size(c.oid) > 64 * 1024 * 1024 AND s.n_dead_tup > 1000000
  AND s.n_dead_tup > 4 * s.n_live_tup
  AND (n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state')
       OR EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = c.oid))

-- name: autovacuum_off
SELECT c.oid::regclass::text AS object_name, NULL AS detail, c.oid::regclass::text AS target
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
  AND EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
              WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
  AND (n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state')
       OR EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = c.oid))

-- name: index_invalid
SELECT i.indexrelid::regclass::text AS object_name, NULL AS detail, i.indexrelid::regclass::text AS target
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid
  AND (n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state')
       OR EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = c.oid))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)

-- name: state_missing
SELECT format('%I.%I', i.schema, i.name) AS object_name, format('pgtrickle_state.%I', t.name) AS detail,
       g.stream_table_id::text AS target
FROM pgtrickle.stages g
JOIN pgtrickle.stream_tables_info i ON i.id = g.stream_table_id
CROSS JOIN LATERAL (VALUES (g.output_table), (g.state_table), (g.log_table)) AS t (name)
WHERE t.name IS NOT NULL AND to_regclass(format('pgtrickle_state.%I', t.name)) IS NULL

-- name: log_missing
SELECT DISTINCT format('%I.%I', i.schema, i.name) AS object_name, format('pgtrickle_changes.o_%s', i.id) AS detail,
       d.stream_table_id::text AS target
FROM pgtrickle.dependencies d
JOIN pgtrickle.stream_tables_info i ON i.id = d.source_stream_table_id
WHERE to_regclass(format('pgtrickle_changes.o_%s', i.id)) IS NULL

-- name: target_missing
SELECT format('%I.%I', st.schema_name, st.table_name) AS object_name, NULL AS detail, st.id::text AS target
FROM pgtrickle.stream_tables st
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = st.relid)

-- name: target_guard
-- Nobody but a refresh may write to a stream table: what others write stays, and deltas go wrong by it.
SELECT c.oid::regclass::text AS object_name,
       CASE WHEN g.oid IS NULL THEN 'has no guard' WHEN g.tgenabled IN ('D', 'R') THEN 'has a guard that is disabled'
            ELSE 'has a guard that is another one' END AS detail, st.id::text AS target
FROM pgtrickle.stream_tables st
JOIN pg_catalog.pg_class c ON c.oid = st.relid
LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = st.relid AND g.tgname = 'pgtrickle_guard'
     AND g.tgfoid = 'pgtrickle.refuse_write()'::regprocedure
-- Before any INSERT, DELETE, UPDATE and TRUNCATE, by statement, unless a refresh says that it is one.
WHERE g.oid IS NULL OR g.tgenabled IN ('D', 'R') OR g.tgtype <> 2 + 4 + 8 + 16 + 32
   OR strpos(pg_get_triggerdef(g.oid), 'WHEN ((current_setting(''pgtrickle.refreshing''::text, true)'
                                       ' IS DISTINCT FROM (pg_backend_pid())::text))') = 0

-- name: target_columns
SELECT c.oid::regclass::text AS object_name,
       CASE WHEN d.present IS NULL THEN format('has no column %I', d.wanted)
            ELSE format('has a column %I that its query does not have', d.present) END AS detail,
       st.id::text AS target
FROM pgtrickle.stream_tables st
JOIN pg_catalog.pg_class c ON c.oid = st.relid
CROSS JOIN LATERAL (
    SELECT q.name AS wanted, a.attname::text AS present
    FROM jsonb_array_elements_text(st.definition -> 'columns') AS q (name)
    FULL JOIN (SELECT attname FROM pg_catalog.pg_attribute
               WHERE attrelid = st.relid AND attnum > 0 AND NOT attisdropped) a ON a.attname::text = q.name) d
WHERE st.is_populated AND st.definition ? 'columns' AND (d.wanted IS NULL OR d.present IS NULL)

-- name: target_unregistered
-- A guard without a registration: the catalog has lost the stream table.
SELECT g.tgrelid::regclass::text AS object_name, NULL AS detail, g.tgrelid::regclass::text AS target
FROM pg_catalog.pg_trigger g
WHERE g.tgfoid = to_regprocedure('pgtrickle.refuse_write()')
  AND NOT EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = g.tgrelid)

-- name: drop_unfinished
SELECT format('%I.%I', i.schema, i.name) AS object_name, st.status_reason AS detail, NULL AS target
FROM pgtrickle.stream_tables st JOIN pgtrickle.stream_tables_info i ON i.id = st.id
WHERE st.status = 'SUSPENDED' AND st.status_reason IN ('being dropped', 'being released')
  AND st.altered_at < now() - interval '1 minute'

-- name: creation_unfinished
SELECT format('%I.%I', i.schema, i.name) AS object_name, st.altered_at::timestamp(0)::text AS detail, NULL AS target
FROM pgtrickle.stream_tables st JOIN pgtrickle.stream_tables_info i ON i.id = st.id
WHERE st.status = 'INITIALIZING' AND st.altered_at < now() - interval '1 day'

-- name: target_row_security
SELECT c.oid::regclass::text AS object_name, NULL AS detail, NULL AS target
FROM pgtrickle.stream_tables st JOIN pg_catalog.pg_class c ON c.oid = st.relid
WHERE c.relrowsecurity AND c.relforcerowsecurity

-- name: frontier_missing
SELECT format('%I.%I', i.schema, i.name) AS object_name, NULL AS detail, i.id::text AS target
FROM pgtrickle.stream_tables_info i
WHERE NOT EXISTS (SELECT FROM pgtrickle.frontiers f
                  WHERE f.stream_table_id = i.id
                    AND (f.snapshot IS NOT NULL OR NOT i.is_populated OR i.recompute_reason IS NOT NULL))

-- name: frontier_ahead
-- It has read more refreshes of a source than there were: what comes next would be taken for known.
SELECT format('%I.%I', i.schema, i.name) AS object_name,
       format('%s of %I.%I, which is at %s', f.consumed ->> p.relid::text, p.schema, p.name, p.refresh_no) AS detail,
       i.id::text AS target
FROM pgtrickle.dependencies d
JOIN pgtrickle.stream_tables_info i ON i.id = d.stream_table_id AND i.recompute_reason IS NULL
JOIN pgtrickle.frontiers f ON f.stream_table_id = i.id
JOIN pgtrickle.stream_tables_info p ON p.id = d.source_stream_table_id
WHERE (f.consumed ->> p.relid::text)::bigint > p.refresh_no

-- name: frontier_of_the_future
SELECT format('%I.%I', i.schema, i.name) AS object_name,
       format('%s, the server is at %s', pg_snapshot_xmax(f.snapshot), pg_snapshot_xmax(pg_current_snapshot())) AS detail,
       i.id::text AS target
FROM pgtrickle.frontiers f
JOIN pgtrickle.stream_tables_info i ON i.id = f.stream_table_id
JOIN pgtrickle.stream_tables st ON st.id = i.id AND st.recompute_reason IS NULL
WHERE pg_snapshot_xmax(f.snapshot) > pg_snapshot_xmax(pg_current_snapshot())

-- name: installation_moved
SELECT current_database()::text AS object_name, NULL AS detail, NULL AS target WHERE pgtrickle.is_elsewhere()

-- name: installation_role
SELECT c.oid::regclass::text AS object_name, pg_get_userbyid(c.relowner)::text AS detail, NULL AS target
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state') AND c.relkind = 'r'
  AND NOT pg_has_role(c.relowner, 'USAGE')

-- name: orphan_function
SELECT p.oid::regprocedure::text AS object_name, NULL AS detail, p.oid::regprocedure::text AS target
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_changes')
  AND p.proname ~ '^[framt]_[0-9]+$'
  AND NOT EXISTS (SELECT FROM pgtrickle.sources s WHERE s.id = substr(p.proname, 3)::numeric)

-- name: orphan_buffer
SELECT c.oid::regclass::text AS object_name, NULL AS detail, c.oid::regclass::text AS target
FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_changes') AND c.relkind = 'r'
  AND NOT (c.relname ~ '^b_[0-9]+$'
           AND EXISTS (SELECT FROM pgtrickle.sources s WHERE 'b_' || s.id = c.relname))
  AND NOT (c.relname ~ '^o_[0-9]+$'
           AND EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE 'o_' || st.id = c.relname))

-- name: orphan_state
SELECT c.oid::regclass::text AS object_name, NULL AS detail, c.oid::regclass::text AS target
FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_state') AND c.relkind = 'r'
  AND NOT EXISTS (SELECT FROM pgtrickle.stages g WHERE c.relname IN (g.output_table, g.state_table, g.log_table))

-- name: stray_object
-- What somebody has made in our schemas; tables there are told by other checks.
SELECT o.name AS object_name, NULL AS detail, format('DROP %s %s', o.kind, o.name) AS target
FROM (
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE'
                          WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND c.relkind IN ('v', 'm', 'S', 'c', 'f', 'p')
       OR n.nspname = 'pgtrickle' AND c.relkind IN ('m', 'f', 'p', 'c')
    UNION ALL
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, p.oid::regprocedure::text
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pgtrickle_changes' AND p.proname !~ '^[framt]_[0-9]+$' OR n.nspname = 'pgtrickle_state') o

-- name: dead_runner
SELECT r.runner_id AS object_name, r.heartbeat_at::timestamp(0)::text AS detail, r.runner_id AS target
FROM pgtrickle.runners r
WHERE r.heartbeat_at NOT BETWEEN now() - interval '10 minutes' AND clock_timestamp() + interval '10 minutes'

-- name: other_version
SELECT r.runner_id AS object_name, r.engine_version AS detail, NULL AS target
FROM pgtrickle.runners r
WHERE r.heartbeat_at > now() - interval '1 minute' AND r.engine_version <> (SELECT i.engine_version FROM pgtrickle.installation i)

-- name: old_history
SELECT 'pgtrickle.refresh_history' AS object_name, h.finished_at::timestamp(0)::text AS detail, NULL AS target
FROM pgtrickle.refresh_history h, pgtrickle.installation i
WHERE h.finished_at < now() - i.history_retention - interval '1 day'
  AND EXISTS (SELECT FROM pgtrickle.refresh_history l WHERE l.stream_table_id = h.stream_table_id AND l.id > h.id)
ORDER BY h.finished_at LIMIT 1

-- name: owner_membership
SELECT c.oid::regclass::text AS object_name, pg_get_userbyid(c.relowner)::text AS detail,
       format('GRANT %I TO %I', pg_get_userbyid(c.relowner), current_user) AS target
FROM pgtrickle.stream_tables st JOIN pg_catalog.pg_class c ON c.oid = st.relid
WHERE NOT pg_has_role(c.relowner, 'MEMBER')

-- name: owner_privileges
-- Refreshes read the sources as the owner of the stream table.
SELECT DISTINCT t.oid::regclass::text AS object_name,
       format('%s may not read %s', pg_get_userbyid(t.relowner), s.oid::regclass) AS detail,
       concat_ws('; ',
           CASE WHEN NOT has_schema_privilege(t.relowner, s.relnamespace, 'USAGE')
                THEN format('GRANT USAGE ON SCHEMA %s TO %I', s.relnamespace::regnamespace, pg_get_userbyid(t.relowner)) END,
           CASE WHEN NOT has_any_column_privilege(t.relowner, s.oid, 'SELECT')
                THEN format('GRANT SELECT ON %s TO %I', s.oid::regclass, pg_get_userbyid(t.relowner)) END) AS target
FROM pgtrickle.stream_tables st
JOIN pg_catalog.pg_class t ON t.oid = st.relid
JOIN pgtrickle.dependencies d ON d.stream_table_id = st.id AND d.kind IN ('table', 'stream_table', 'uncaptured')
JOIN pg_catalog.pg_class s ON s.oid = d.relid
WHERE NOT has_schema_privilege(t.relowner, s.relnamespace, 'USAGE')
   OR NOT has_any_column_privilege(t.relowner, s.oid, 'SELECT')

-- name: public_privileges
-- What is captured or kept as state shows rows of tables that not everybody may read.
SELECT DISTINCT c.oid::regclass::text AS object_name,
       CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(a.grantee)::text END AS detail,
       format('REVOKE ALL ON %s FROM %s', c.oid::regclass,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS target
FROM pg_catalog.pg_class c
CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname IN ('pgtrickle_changes', 'pgtrickle_state'))
  AND c.relkind = 'r' AND a.grantee = 0

-- name: role_privileges
-- A privilege on a table needs one on its schema: what default privileges give is of no use to anybody without that. The views
-- of the schema pgtrickle are for whoever is let in; its tables are not, because errors quote rows and queries are run.
SELECT DISTINCT o.name AS object_name,
       CASE o.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(o.grantee)::text END AS detail,
       format('REVOKE ALL ON %s FROM %s', o.name,
              CASE o.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o.grantee)) END) AS target
FROM (
    SELECT 'SCHEMA ' || quote_ident(n.nspname) AS name, a.grantee
    FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
    WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND a.grantee <> n.nspowner
    UNION ALL
    SELECT 'SCHEMA pgtrickle', a.grantee
    FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
    WHERE n.nspname = 'pgtrickle' AND a.grantee <> n.nspowner AND a.privilege_type = 'CREATE'
    UNION ALL
    SELECT c.oid::regclass::text, a.grantee
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL aclexplode(c.relacl) AS a
    WHERE n.nspname = 'pgtrickle' AND c.relkind = 'r' AND a.grantee <> c.relowner
      AND EXISTS (SELECT FROM aclexplode(n.nspacl) AS u WHERE u.grantee IN (0, a.grantee) AND u.privilege_type = 'USAGE')
    ) o

-- name: function_privileges
SELECT p.oid::regprocedure::text AS object_name, NULL AS detail,
       format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure) AS target
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_changes')
  AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))

-- name: extension_present
SELECT 'pg_trickle' AS object_name, extversion AS detail, NULL AS target
FROM pg_catalog.pg_extension WHERE extname = 'pg_trickle'

-- name: server_is_standby
SELECT current_database()::text AS object_name, NULL AS detail, NULL AS target WHERE pg_is_in_recovery()

-- name: connections_scarce
SELECT 'max_connections' AS object_name, format('%s of %s', a.used, m.most) AS detail, NULL AS target
FROM (SELECT count(*) AS used FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') a,
     (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most) m
WHERE a.used > 0.9 * m.most

-- name: server_settings
SELECT name AS object_name, setting AS detail, NULL AS target
FROM pg_catalog.pg_settings
WHERE name IN ('track_counts', 'autovacuum') AND setting = 'off'

-- name: role_settings
-- Settings that come with a role or a database, and that refreshes or writers would not survive.
SELECT coalesce(r.rolname, d.datname, 'everybody')::text AS object_name, s.setting AS detail, NULL AS target
FROM pg_catalog.pg_db_role_setting g
LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid = g.setdatabase
CROSS JOIN LATERAL unnest(g.setconfig) AS s (setting)
WHERE (g.setdatabase = 0 OR d.datname = current_database())
  AND (g.setrole = 0 OR r.rolname = current_user)
  AND s.setting IN ('default_transaction_read_only=on', 'default_transaction_read_only=true',
                    'session_replication_role=replica', 'track_counts=off')

-- name: temp_file_limit
-- What triggers see of a statement is kept in temporary files. For whom there is a limit.
SELECT l.who AS object_name, l.setting AS detail, NULL AS target
FROM (SELECT 'everybody' AS who, current_setting('temp_file_limit') AS setting
      WHERE EXISTS (SELECT FROM pg_catalog.pg_settings s WHERE s.name = 'temp_file_limit' AND s.reset_val <> '-1')
      UNION ALL
      SELECT coalesce(r.rolname, d.datname, 'everybody')::text, split_part(s.setting, '=', 2)
      FROM pg_catalog.pg_db_role_setting g
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.setrole
      LEFT JOIN pg_catalog.pg_database d ON d.oid = g.setdatabase
      CROSS JOIN LATERAL unnest(g.setconfig) AS s (setting)
      WHERE (g.setdatabase = 0 OR d.datname = current_database())
        AND s.setting LIKE 'temp\_file\_limit=%' AND s.setting <> 'temp_file_limit=-1') l
WHERE EXISTS (SELECT FROM pgtrickle.sources)

-- name: long_transaction
SELECT format('pid %s', a.pid) AS object_name,
       format('%s, %s since %s: %s', a.usename, a.state, a.xact_start::timestamp(0), left(a.query, 80)) AS detail, NULL AS target
FROM pg_catalog.pg_stat_activity a
WHERE a.xact_start < now() - interval '1 hour' AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
  AND a.backend_type = 'client backend'

-- name: long_prepared
SELECT p.gid AS object_name, format('%s since %s', p.owner, p.prepared::timestamp(0)) AS detail, NULL AS target
FROM pg_catalog.pg_prepared_xacts p
WHERE p.database = current_database() AND p.prepared < now() - interval '1 hour'

-- name: old_slot
SELECT s.slot_name::text AS object_name,
       format('%s transactions behind', greatest(age(s.xmin), age(s.catalog_xmin))) AS detail, NULL AS target
FROM pg_catalog.pg_replication_slots s
WHERE NOT s.active AND greatest(age(s.xmin), age(s.catalog_xmin)) > 10000000

-- name: wraparound
SELECT d.datname::text AS object_name, format('%s transactions', age(d.datfrozenxid)) AS detail, NULL AS target
FROM pg_catalog.pg_database d
WHERE d.datname = current_database() AND age(d.datfrozenxid) > 1000000000
