-- What trigger functions ask of the catalog. Called with constants these are computed when the caller's statement is
-- planned, and kept with the plan. PostgreSQL makes the plan again when a table of which a regclass stands in it has
-- changed: so statements pay nothing for them. That is what they are declared immutable for, which they are only as long
-- as nobody alters, attaches or detaches.

-- Whether a table's columns meet a condition (of which %1$s stands for the table), as statements of this moment see them,
-- whatever the snapshot of the transaction: the parser is asked, which reads the catalog as it is. NULL: it cannot be said.
CREATE FUNCTION pgtrickle.columns_fit(source regclass, condition text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fits boolean;
BEGIN
    EXECUTE concat('SELECT ', format(condition, source)) INTO fits;
    RETURN fits;
EXCEPTION
    WHEN undefined_column THEN
        RETURN false;
    WHEN OTHERS THEN  -- its schema is being renamed, for example, or is not ours to look into any more
        RETURN NULL;
END
$$;

-- Whether a table has columns beside these. What is generated changes with the others.
CREATE FUNCTION pgtrickle.has_others(source regclass, names text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND a.attname <> ALL (names)
    );
END
$$;

-- Whether other tables may hang directly below these than so many, each counted for each of its parents. Who reaches a table
-- through its parent has locked it, and so has waited for who has put it there, and heard of it. A snapshot that is older
-- than the statement may not show it: then it may be so, whatever is counted, and whoever asks has to look.
CREATE FUNCTION pgtrickle.may_have_others_below(parents regclass[], links bigint) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
           OR (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = ANY (parents::oid[])) <> links;
END
$$;

-- The server's clock may be set back: what was noted of a later time than now says nothing about how old content is, or who
-- is alive. `now()` is when a transaction began, so that what others have done since may be later: the clock itself is asked.
CREATE OR REPLACE VIEW pgtrickle.stream_tables_info AS
SELECT st.id, coalesce(n.nspname, st.schema_name) AS schema, coalesce(c.relname, st.table_name) AS name, st.relid, st.status, st.status_reason,
       st.requested_mode, st.effective_mode AS mode, st.mode_reason, st.schedule, st.is_populated,
       st.recompute_reason, st.consecutive_errors, st.last_error ->> 'message' AS last_error, st.retry_at,
       f.refresh_no, greatest(f.data_timestamp, k.checked_at) AS data_timestamp, f.last_refresh_at,
       now() - greatest(p.last_refresh_at, k.checked_at) AS staleness,
       CASE WHEN st.schedule_seconds IS NULL THEN NULL
            ELSE coalesce(extract(epoch FROM now() - greatest(p.last_refresh_at, k.checked_at))
                          > 2 * st.schedule_seconds, true)
       END AS stale,
       st.query, st.created_at, st.altered_at
FROM pgtrickle.stream_tables st
LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
LEFT JOIN LATERAL (
    SELECT f.last_refresh_at WHERE f.last_refresh_at <= clock_timestamp() + interval '1 second') p ON true
LEFT JOIN LATERAL (
    SELECT max(r.checked_at) AS checked_at FROM pgtrickle.runners r
    WHERE st.id <> ALL (r.unchecked) AND f.last_refresh_at IS NOT NULL
      AND r.checked_at <= clock_timestamp() + interval '1 second') k ON true
LEFT JOIN pg_catalog.pg_class c ON c.oid = st.relid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;

CREATE OR REPLACE VIEW pgtrickle.quick_health AS
SELECT count(*) AS total_stream_tables,
       count(*) FILTER (WHERE status = 'ACTIVE') AS active_tables,
       count(*) FILTER (WHERE status = 'ERROR' OR consecutive_errors > 0) AS error_tables,
       count(*) FILTER (WHERE status = 'SUSPENDED') AS suspended_tables,
       count(*) FILTER (WHERE stale) AS stale_tables,
       count(*) FILTER (WHERE NOT is_populated) AS unpopulated_tables,
       (SELECT count(*) FROM pgtrickle.runners
        WHERE heartbeat_at BETWEEN now() - interval '1 minute' AND clock_timestamp() + interval '1 minute') AS live_runners,
       CASE WHEN count(*) = 0 THEN 'EMPTY'
            WHEN bool_or(status IN ('SUSPENDED', 'ERROR')) THEN 'CRITICAL'
            WHEN bool_or(coalesce(stale, false) OR consecutive_errors > 0 OR NOT is_populated) THEN 'WARNING'
            ELSE 'OK' END AS status
FROM pgtrickle.stream_tables_info;

-- A transaction that was prepared before a crash is committed after it, and what it wrote to UNLOGGED tables is gone: its
-- change rows are not. So the canary, which says that no crash was, also names the transactions that were begun before it
-- was planted and are not over: when one of them ends, what reads UNLOGGED tables is recomputed.
ALTER TABLE pgtrickle.canary ADD COLUMN planted xid8 NOT NULL DEFAULT pg_current_xact_id();

-- NULL: nobody has planted one since the crash.
CREATE FUNCTION pgtrickle.canary() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.token || coalesce((SELECT string_agg(concat(' ', x.x), '') FROM pg_snapshot_xip(pg_current_snapshot()) AS x (x)
                                WHERE x.x < c.planted), '')
    FROM pgtrickle.canary c
$$;

-- Schema changes of what a query uses besides relations: types, operators, casts, collations, text search (types).

-- Kinds of objects by OIDs of their own catalogs; `ts_config` 0 is every text search configuration.
ALTER TABLE pgtrickle.dependencies DROP CONSTRAINT dependencies_kind_check;
ALTER TABLE pgtrickle.dependencies ADD CONSTRAINT dependencies_kind_check CHECK (
    kind IN ('table', 'stream_table', 'uncaptured', 'view', 'function', 'type', 'operator', 'collation', 'ts_config',
             'ts_dict'));

-- Earlier engines did not record what the query uses: it is compiled, recorded and recomputed once.
UPDATE pgtrickle.stream_tables SET definition = definition - 'shape';

-- Whether some of these types stands for any type.
CREATE FUNCTION pgtrickle.is_polymorphic(types oid[]) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY (types) AND t.typtype = 'p')
$$;

-- What a cast does.
CREATE FUNCTION pgtrickle.cast_facts(one pg_catalog.pg_cast) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat_ws(' ', one.castsource, one.casttarget, one.castfunc, one.castcontext, one.castmethod)
$$;

-- The version of the collations of the operating system that the database was made with, as somebody has last confirmed it;
-- PostgreSQL 14 has none.
CREATE FUNCTION pgtrickle.collation_version() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_jsonb(d) ->> 'datcollversion' FROM pg_database d WHERE d.datname = current_database()
$$;

-- What a text search configuration or dictionary does to words. A dictionary that was altered may have read its files anew,
-- also where its options are the same. 0: all configurations.
CREATE FUNCTION pgtrickle.text_search(kind text, wanted oid, OUT namespace oid, OUT name text, OUT does text)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.cfgnamespace, c.cfgname::text, concat(c.cfgparser, ' ', (
        SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, d.oid, d.xmin), ';'
                          ORDER BY m.maptokentype, m.mapseqno)
        FROM pg_ts_config_map m JOIN pg_ts_dict d ON d.oid = m.mapdict WHERE m.mapcfg = c.oid))
    FROM pg_ts_config c WHERE kind = 'ts_config' AND c.oid = wanted
    UNION ALL
    SELECT d.dictnamespace, d.dictname::text, concat(d.oid, ' ', d.xmin)
    FROM pg_ts_dict d WHERE kind = 'ts_dict' AND d.oid = wanted
    UNION ALL
    SELECT 'pg_catalog'::regnamespace, 'all configurations', concat(
        (SELECT string_agg(concat_ws(' ', n.nspname, c.cfgname, c.oid), ';' ORDER BY c.oid)
         FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace),
        (SELECT string_agg(concat_ws(' ', m.mapcfg, m.maptokentype, m.mapseqno, d.oid, d.xmin), ';'
                           ORDER BY m.mapcfg, m.maptokentype, m.mapseqno)
         FROM pg_ts_config_map m JOIN pg_ts_dict d ON d.oid = m.mapdict))
    WHERE kind = 'ts_config' AND wanted = 0
$$;

-- What functions and types mean at this moment, whatever the snapshot of the transaction: PostgreSQL executes them so, and
-- these functions read the catalog as it is. What does not change the result is left out.
CREATE FUNCTION pgtrickle.meaning(wanted bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one record;
    text_now text;
    found text;
BEGIN
    FOR one IN
        SELECT d.kind, d.relid, p.prokind, t.typtype
        FROM pgtrickle.dependencies d
        LEFT JOIN pg_proc p ON d.kind = 'function' AND p.oid = d.relid
        LEFT JOIN pg_type t ON d.kind = 'type' AND t.oid = d.relid
        WHERE d.stream_table_id = wanted AND d.kind IN ('function', 'type')
        ORDER BY d.kind, d.relid
    LOOP
        BEGIN
            text_now := NULL;
            IF one.prokind = 'a' THEN
                text_now := one.relid::regprocedure;
            ELSIF one.kind = 'function' THEN
                text_now := pg_get_functiondef(one.relid);
                text_now := concat(regexp_replace(
                    split_part(text_now, E'\nAS ', 1),
                    ' (COST [0-9.e+]+|ROWS [0-9.e+]+|PARALLEL (SAFE|RESTRICTED)|LEAKPROOF)', '', 'g'),
                    CASE WHEN strpos(text_now, E'\nAS ') > 0 THEN substr(text_now, strpos(text_now, E'\nAS ')) END);
            ELSE
                text_now := format_type(one.relid, NULL);
                IF one.typtype = 'e' THEN
                    EXECUTE concat('SELECT enum_range(NULL::', text_now, ')') INTO text_now;
                ELSIF one.typtype = 'c' THEN
                    EXECUTE concat('SELECT row_to_json(jsonb_populate_record(NULL::', text_now, ', ''{}''))') INTO text_now;
                END IF;
            END IF;
        EXCEPTION WHEN OTHERS THEN  -- it was dropped, or is nothing that could be asked
            text_now := concat(SQLSTATE, ' ', text_now);
        END;
        found := concat(found, one.relid, ' ', text_now, E'\n');
    END LOOP;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION pgtrickle.fingerprint(stream_table_ids bigint[])
RETURNS TABLE (stream_table_id bigint, facts jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT f.stream_table_id, jsonb_build_object(
        'cluster', (SELECT s.system_identifier || '/' || d.oid FROM pg_control_system() s, pg_database d
                    WHERE d.datname = current_database()),
        'xmax', pg_snapshot_xmax(pg_current_snapshot())::text,
        'frontier_xmax', pg_snapshot_xmax(f.snapshot)::text,
        'canary', pgtrickle.canary(),
        'relations', coalesce((
            SELECT jsonb_object_agg(d.relid::text, jsonb_build_object(
                'kind', d.kind,
                'recorded_name', format('%I.%I', d.schema_name, d.object_name),
                'name', CASE WHEN c.oid IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END,
                'named', to_regclass(format('%I.%I', d.schema_name, d.object_name))::oid::text,
                'relkind', c.relkind,
                -- A crash that empties one partition or child has changed the whole.
                'persistence', CASE WHEN (c.relkind = 'p' OR c.relhassubclass) AND EXISTS (
                    SELECT FROM pgtrickle.source_tables t JOIN pg_class p ON p.oid = t.relid
                    WHERE t.source_id = d.source_id AND t.place = 'own' AND p.relpersistence = 'u')
                    THEN 'u' ELSE c.relpersistence END,
                'row_security', c.relrowsecurity::text || c.relforcerowsecurity::text,
                'columns', coalesce((
                    SELECT jsonb_object_agg(a.attnum::text, jsonb_build_object(
                        'name', a.attname, 'type', a.atttypid::text, 'typmod', a.atttypmod,
                        'collation', a.attcollation::text, 'not_null', a.attnotnull,
                        -- Another expression of a virtual column changes all values, and nothing is written.
                        'generated', CASE a.attgenerated WHEN 'v' THEN 'v ' || (
                            SELECT pg_get_expr(g.adbin, g.adrelid) FROM pg_attrdef g
                            WHERE g.adrelid = a.attrelid AND g.adnum = a.attnum) ELSE a.attgenerated::text END,
                        'dropped', a.attisdropped, 'xmin', a.xmin::text,
                        -- A partition or child may be given an expression of its own, which rewrites it alone.
                        'below', CASE a.attgenerated WHEN 's' THEN (
                            SELECT jsonb_object_agg(b.attrelid::text, b.xmin::text)
                            FROM pgtrickle.source_tables t JOIN pg_attribute b ON b.attrelid = t.relid
                            WHERE t.source_id = d.source_id AND t.relid <> d.relid AND b.attname = a.attname) END))
                    FROM pg_attribute a WHERE a.attrelid = d.relid AND a.attnum = ANY (d.columns)), '{}'),
                'keys', coalesce((
                    SELECT jsonb_agg(k.columns ORDER BY k.columns)
                    FROM (SELECT DISTINCT i.indkey::text || '/' || i.indnkeyatts AS columns FROM pg_index i
                          WHERE i.indrelid = d.relid AND i.indisunique AND i.indisvalid AND i.indimmediate
                            AND i.indpred IS NULL AND i.indexprs IS NULL
                            -- A unique index of an inheritance parent says nothing about the rows of its children.
                            AND (c.relkind = 'p' OR NOT EXISTS (
                                SELECT FROM pg_inherits h WHERE h.inhparent = d.relid))) k), '[]'),
                'family', CASE WHEN c.relkind = 'p' THEN (
                    SELECT string_agg(t.relid::oid::text, ' ' ORDER BY t.relid::oid) FROM pg_partition_tree(c.oid) t) END,
                -- tableoid is shown as a name: OIDs with the names that the tables of the family have.
                'members', CASE WHEN -6 = ANY (d.columns) THEN (
                    SELECT jsonb_object_agg(p.oid::text, format('%I.%I', m.nspname, p.relname))
                    FROM pgtrickle.source_tables t JOIN pg_class p ON p.oid = t.relid
                    JOIN pg_namespace m ON m.oid = p.relnamespace
                    WHERE t.source_id = d.source_id AND t.place = 'own') END,
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
                        LEFT JOIN pg_proc p ON p.oid = g.tgfoid
                        WHERE t.source_id = s.id AND concat(g.xmin, ':', p.xmin) <> r.value)
                    AND EXISTS (
                        SELECT FROM pg_class b
                        WHERE b.relname = concat('b_', s.id)::name
                          AND b.relnamespace = to_regnamespace('pgtrickle_changes'))
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
                            SELECT t.relid, t.attached FROM pgtrickle.source_tables t WHERE t.source_id = s.id) t
                            ON t.relid = a.relid
                        WHERE a.relid IS NULL OR t.relid IS NULL OR t.attached <> coalesce((
                            SELECT string_agg(i.inhparent || ':' || i.xmin, ' ' ORDER BY i.inhparent)
                            FROM pg_inherits i WHERE i.inhrelid = a.relid AND NOT i.inhdetachpending), ''))
                    AND (s.trigger_level = 'row') = EXISTS (
                        SELECT FROM pgtrickle.source_tables t JOIN pg_subscription_rel r ON r.srrelid = t.relid
                        WHERE t.source_id = s.id AND t.place = 'own'))))
            FROM pgtrickle.dependencies d
            LEFT JOIN pg_class c ON c.oid = d.relid
            LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pgtrickle.sources s ON s.id = d.source_id
            WHERE d.stream_table_id = f.stream_table_id AND d.kind IN ('table', 'stream_table', 'uncaptured')), '{}'),
        -- Also the names of columns, so that they can be followed when they are renamed.
        'views', coalesce((
            SELECT jsonb_object_agg(v.name, jsonb_build_object(
                'text', pg_get_viewdef(v.oid), 'oid', v.oid::bigint, 'columns', (
                    SELECT jsonb_object_agg(a.attnum::text, a.attname) FROM pg_attribute a
                    WHERE a.attrelid = v.oid AND a.attnum > 0)))
            FROM pgtrickle.dependencies d
            CROSS JOIN LATERAL (SELECT format('%I.%I', d.schema_name, d.object_name)) AS n (name)
            CROSS JOIN LATERAL (SELECT n.name, to_regclass(n.name)::oid) AS v (name, oid)
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'view'), '{}'),
        'functions', coalesce((
            SELECT jsonb_object_agg(d.relid::text, jsonb_build_array(
                d.object_name, p.prosrc, p.probin, p.provolatile, p.proisstrict, p.proconfig, p.prolang::text,
                pg_get_function_sqlbody(p.oid), pg_get_expr(p.proargdefaults, 0), (
                    SELECT concat_ws(' ', a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggserialfn::oid,
                                     a.aggdeserialfn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid,
                                     a.aggfinalextra, a.aggsortop, a.aggtranstype, quote_nullable(a.agginitval),
                                     quote_nullable(a.aggminitval))
                    FROM pg_aggregate a WHERE a.aggfnoid = p.oid),
                -- What takes arguments of any type is no longer called when there is a function for these types.
                CASE WHEN pgtrickle.is_polymorphic(p.proargtypes) THEN (
                    SELECT jsonb_agg(o.oid::bigint ORDER BY o.oid) FROM pg_proc o
                    WHERE o.proname = p.proname AND o.pronamespace = p.pronamespace) END,
                jsonb_build_array(n.nspname, p.proname), p.oid IS NOT NULL))
            FROM pgtrickle.dependencies d LEFT JOIN pg_proc p ON p.oid = d.relid
            LEFT JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'function'), '{}'),
        'types', coalesce((
            SELECT jsonb_object_agg(d.relid::text, (
                SELECT jsonb_build_object(
                    'name', jsonb_build_array(n.nspname, t.typname),
                    'labels', CASE t.typtype WHEN 'e' THEN (
                        SELECT jsonb_agg(jsonb_build_array(e.oid::bigint, e.enumlabel) ORDER BY e.enumsortorder)
                        FROM pg_enum e WHERE e.enumtypid = t.oid) END,
                    'attributes', CASE t.typtype WHEN 'c' THEN (
                        SELECT jsonb_agg(jsonb_build_array(a.attnum, a.attname, a.atttypid::bigint, a.atttypmod,
                                                           a.attcollation::bigint) ORDER BY a.attnum)
                        FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END,
                    -- It is no relation's.
                    'free', (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid),
                    'casts', (
                        SELECT jsonb_agg(pgtrickle.cast_facts(k) ORDER BY k.castsource, k.casttarget)
                        FROM pg_cast k WHERE t.oid IN (k.castsource, k.casttarget)))
                FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = d.relid))
            FROM pgtrickle.dependencies d
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'type'), '{}'),
        'operators', coalesce((
            SELECT jsonb_object_agg(d.relid::text, (
                SELECT jsonb_build_object(
                    'name', jsonb_build_array(n.nspname, o.oprname),
                    'operands', concat(o.oprleft, ' ', o.oprright), 'function', o.oprcode::oid::bigint,
                    'namesakes', CASE WHEN pgtrickle.is_polymorphic(ARRAY[o.oprleft, o.oprright]) THEN (
                        SELECT jsonb_agg(s.oid::bigint ORDER BY s.oid) FROM pg_operator s
                        WHERE s.oprname = o.oprname AND s.oid >= 16384) END)
                FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = d.relid))
            FROM pgtrickle.dependencies d
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'operator'), '{}'),
        'collations', coalesce((
            SELECT jsonb_object_agg(d.relid::text, (
                SELECT jsonb_build_object('name', jsonb_build_array(n.nspname, c.collname), 'version', c.collversion)
                FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = d.relid))
            FROM pgtrickle.dependencies d
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'collation'), '{}'),
        'text_search', coalesce((
            SELECT jsonb_object_agg(d.kind || ' ' || d.relid, (
                SELECT jsonb_build_object('name', jsonb_build_array(n.nspname, s.name), 'does', s.does)
                FROM pgtrickle.text_search(d.kind, d.relid) AS s JOIN pg_namespace n ON n.oid = s.namespace))
            FROM pgtrickle.dependencies d
            WHERE d.stream_table_id = f.stream_table_id AND d.kind IN ('ts_config', 'ts_dict')), '{}'),
        -- A superuser may make casts between types of PostgreSQL.
        'casts', (SELECT jsonb_agg(pgtrickle.cast_facts(k) ORDER BY k.castsource, k.casttarget) FROM pg_cast k
                  WHERE k.oid >= 16384 AND k.castsource < 16384 AND k.casttarget < 16384),
        'collation_version', pgtrickle.collation_version(),
        'meaning', CASE WHEN EXISTS (SELECT FROM pgtrickle.dependencies d
                                     WHERE d.stream_table_id = f.stream_table_id AND d.kind IN ('function', 'type'))
                        THEN pgtrickle.meaning(f.stream_table_id) END,
        -- The stream table itself.
        'own', (
            SELECT jsonb_build_object(
                'name', CASE WHEN c.oid IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END,
                'persistence', c.relpersistence,
                'guard', (SELECT g.xmin::text FROM pg_trigger g
                          WHERE g.tgrelid = st.relid AND g.tgname = 'pgtrickle_guard'),
                'columns', (
                    SELECT jsonb_object_agg(a.attnum::text, jsonb_build_array(
                        a.attname, a.atttypid::text, a.atttypmod, a.attcollation::text))
                    FROM pg_attribute a WHERE a.attrelid = st.relid AND a.attnum > 0 AND NOT a.attisdropped))
            FROM pgtrickle.stream_tables st
            LEFT JOIN pg_class c ON c.oid = st.relid
            LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE st.id = f.stream_table_id))
    FROM pgtrickle.frontiers f
    WHERE f.stream_table_id = ANY (stream_table_ids)
    ORDER BY f.stream_table_id;
END
$$;

-- Part of `versions`, and apart from it, so that nobody pays for it who uses nothing of it.
CREATE FUNCTION pgtrickle.object_version(kind text, object oid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN CASE kind
        -- A body that was parsed at once is printed by the names of what it uses.
        WHEN 'function' THEN (
            SELECT concat(p.xmin, ' ', m.xmin, ' ', CASE WHEN pgtrickle.is_polymorphic(p.proargtypes) THEN (
                SELECT array_agg(o.oid) FROM pg_proc o
                WHERE o.proname = p.proname AND o.pronamespace = p.pronamespace) END)
            FROM pg_proc p JOIN pg_namespace m ON m.oid = p.pronamespace
            WHERE p.oid = object AND p.prosqlbody IS NULL)
        WHEN 'type' THEN (
            SELECT concat(t.xmin, ' ', m.xmin, ' ',
                          (SELECT array_agg(l.xmin) FROM pg_enum l WHERE l.enumtypid = t.oid), ' ',
                          (SELECT array_agg(a.xmin) FROM pg_attribute a
                           WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND t.typtype = 'c'), ' ',
                          (SELECT array_agg(k.xmin) FROM pg_cast k WHERE t.oid IN (k.castsource, k.casttarget)))
            FROM pg_type t JOIN pg_namespace m ON m.oid = t.typnamespace WHERE t.oid = object)
        WHEN 'operator' THEN (
            SELECT concat(o.xmin, ' ', m.xmin, ' ', (SELECT array_agg(s.oid) FROM pg_operator s
                                                     WHERE s.oprname = o.oprname AND s.oid >= 16384))
            FROM pg_operator o JOIN pg_namespace m ON m.oid = o.oprnamespace WHERE o.oid = object)
        WHEN 'collation' THEN (
            SELECT concat(l.xmin, ' ', m.xmin)
            FROM pg_collation l JOIN pg_namespace m ON m.oid = l.collnamespace WHERE l.oid = object)
        WHEN 'ts_config' THEN (
            SELECT concat(m.xmin, ' ', s.name, ' ', s.does)
            FROM pgtrickle.text_search(kind, object) AS s JOIN pg_namespace m ON m.oid = s.namespace)
        WHEN 'ts_dict' THEN (
            SELECT concat(m.xmin, ' ', s.name, ' ', s.does)
            FROM pgtrickle.text_search(kind, object) AS s JOIN pg_namespace m ON m.oid = s.namespace)
    END;
END
$$;

CREATE OR REPLACE FUNCTION pgtrickle.versions(ids bigint[])
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN ARRAY (
        SELECT concat(current_user, ' ', st.xmin, ' ', c.xmin, ' ', n.xmin, ' ', pg_get_userbyid(c.relowner), ' ',
                      (SELECT array_agg(a.xmin) FROM pg_attribute a WHERE a.attrelid = st.relid AND a.attnum > 0), ' ',
                      (SELECT array_agg(g.xmin) FROM pg_trigger g WHERE g.tgrelid = st.relid), ' ',
                      (SELECT array_agg(k.xmin) FROM pg_cast k
                       WHERE k.oid >= 16384 AND k.castsource < 16384 AND k.casttarget < 16384), ' ',
                      CASE WHEN EXISTS (SELECT FROM pgtrickle.dependencies d
                                        WHERE d.stream_table_id = st.id AND d.kind IN ('function', 'type'))
                           THEN pgtrickle.meaning(st.id) END, ' ')
               || read.versions
        FROM unnest(ids) WITH ORDINALITY AS u (id, position)
        LEFT JOIN (pgtrickle.stream_tables st
                   JOIN pg_class c ON c.oid = st.relid
                   JOIN pg_namespace n ON n.oid = c.relnamespace)
               ON st.id = u.id AND st.fingerprint
                  - '{cluster,xmax,frontier_xmax,canary,relations,views,functions,types,operators,collations,text_search,casts,collation_version,meaning,own}'::text[] = '{}'
        LEFT JOIN LATERAL (
            SELECT CASE WHEN bool_and(e.version IS NOT NULL) THEN string_agg(e.version, ';') END AS versions
            FROM (
                SELECT concat(d.xmin, ' ') || CASE d.kind
                    WHEN 'view' THEN (
                        SELECT concat(v.oid, ' ', (SELECT array_agg(a.xmin) FROM pg_attribute a
                                                   WHERE a.attrelid = v.oid AND a.attnum > 0), ' ') || pg_get_viewdef(v.oid)
                        FROM (SELECT to_regclass(format('%I.%I', d.schema_name, d.object_name))::oid) AS v (oid))
                    WHEN 'function' THEN pgtrickle.object_version(d.kind, d.relid)
                    WHEN 'type' THEN pgtrickle.object_version(d.kind, d.relid)
                    WHEN 'operator' THEN pgtrickle.object_version(d.kind, d.relid)
                    WHEN 'collation' THEN pgtrickle.object_version(d.kind, d.relid)
                    WHEN 'ts_config' THEN pgtrickle.object_version(d.kind, d.relid)
                    WHEN 'ts_dict' THEN pgtrickle.object_version(d.kind, d.relid)
                    ELSE (
                        SELECT concat(r.xmin, ' ', m.xmin, ' ',
                                      to_regclass(format('%I.%I', d.schema_name, d.object_name))::oid, ' ',
                                      (SELECT array_agg(i.xmin) FROM pg_index i WHERE i.indrelid = d.relid), ' ',
                                      (SELECT array_agg(concat(g.xmin, ' ', p.xmin))
                                       FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
                                       WHERE g.tgrelid = d.relid), ' ',
                                      to_regclass(concat('pgtrickle_changes.b_', d.source_id))::oid, ' ',
                                      (SELECT s.xmin FROM pgtrickle.sources s WHERE s.id = d.source_id), ' ',
                                      (SELECT array_agg(t.xmin) FROM pgtrickle.source_tables t
                                       WHERE t.source_id = d.source_id), ' ',
                                      CASE r.relpersistence WHEN 'u' THEN pgtrickle.canary() END, ' ')
                               || (SELECT CASE WHEN bool_and(a.attgenerated = '') IS NOT FALSE
                                               THEN concat(array_agg(a.xmin)) END
                                   FROM pg_attribute a
                                   WHERE a.attrelid = d.relid AND a.attnum = ANY (d.columns))
                        FROM pg_class r
                        JOIN pg_namespace m ON m.oid = r.relnamespace
                        -- Families have many rows in many places.
                        WHERE r.oid = d.relid AND r.relkind <> 'p' AND NOT r.relispartition AND NOT r.relhassubclass
                          AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = d.relid)
                          AND NOT EXISTS (SELECT FROM pg_subscription_rel b WHERE b.srrelid = d.relid))
                    END AS version
                FROM pgtrickle.dependencies d WHERE d.stream_table_id = st.id) AS e) AS read ON true
        ORDER BY u.position);
END
$$;

-- Trims change buffers and logs in one message, each in a transaction of its own: those that the stream tables with these
-- ids read and write, or all. What somebody else is working on is skipped. `report`: what is left of each change buffer
-- that was not empty, the number of log rows deleted, and the sources that nobody reads. A procedure that commits can have no settings of its own, so that names are written out.
-- Whether there is anything to delete is looked at without a lock: a lock is a write, and a write waits for the disk.
CREATE OR REPLACE PROCEDURE pgtrickle.trim(INOUT report jsonb, only_for bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    one jsonb;
    several jsonb[];
    held bigint;
    worth bigint;
    blocks bigint;
    block bigint;
    -- A transaction deletes from so many blocks at most: whatever waits for it waits for a second, not for a minute.
    step CONSTANT bigint := 4096;
    below xid8;
    running xid8[];
    unseen bigint;
    emptied boolean;
    gone bigint;
    trimmed jsonb := '[]';
    log_rows bigint := 0;
BEGIN
    -- A procedure with COMMIT has no settings of its own, and behind a pooler the session's path is anybody's.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    INSERT INTO pgtrickle.canary (token) VALUES (pg_catalog.gen_random_uuid()::text) ON CONFLICT DO NOTHING;
    SELECT pg_catalog.array_agg(pg_catalog.jsonb_build_object('id', s.id, 'name', c.oid::pg_catalog.regclass) ORDER BY s.id)
    INTO several
    FROM pgtrickle.sources s
    JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgtrickle_changes'::pg_catalog.regnamespace
         AND c.relname = pg_catalog.concat('b_', s.id)::name
    WHERE pg_catalog.pg_relation_size(c.oid) > 0
      AND EXISTS (SELECT FROM pgtrickle.dependencies d
                  WHERE d.source_id = s.id AND (only_for IS NULL OR d.stream_table_id = ANY (only_for)));
    FOREACH one IN ARRAY coalesce(several, '{}') LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        gone := 0;
        emptied := false;
        BEGIN
            EXECUTE pg_catalog.concat('SELECT pg_catalog.count(*) FROM (
                SELECT FROM ', one ->> 'name', ' b
                WHERE b.__x < (SELECT t.below FROM pgtrickle.trimmable($1) t) LIMIT 200000) AS s')
            INTO worth USING (one ->> 'id')::bigint;
        EXCEPTION WHEN undefined_table THEN
            CONTINUE;
        END;
        IF worth > 0 THEN
            PERFORM FROM pgtrickle.sources s WHERE s.id = (one ->> 'id')::bigint FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND OR pg_catalog.to_regclass(one ->> 'name') IS NULL;
            -- A smaller one is deleted from and vacuumed as fast; to read a larger one takes too long.
            IF pg_catalog.pg_relation_size((one ->> 'name')::pg_catalog.regclass) BETWEEN 262144 AND 16777216 THEN
                SELECT t.below, t.running INTO below, running FROM pgtrickle.trimmable((one ->> 'id')::bigint) t;
                EXECUTE pg_catalog.concat('
                    SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE b.__x >= $1 OR b.__x = ANY ($2))
                    FROM ', one ->> 'name', ' b') INTO gone, unseen USING below, running;
                emptied := unseen = 0 AND pgtrickle.empty_buffer(one ->> 'name', below, running);
            END IF;
        END IF;
        block := CASE WHEN worth < 200000 THEN NULL ELSE 0 END;
        blocks := CASE WHEN worth > 0 AND NOT emptied THEN coalesce(pg_catalog.pg_relation_size(
            pg_catalog.to_regclass(one ->> 'name')) / pg_catalog.current_setting('block_size')::bigint, 0) ELSE 0 END;
        WHILE blocks > 0 LOOP
            -- One statement, so that consumers and rows are seen through one snapshot.
            EXECUTE pg_catalog.concat('
                DELETE FROM ', one ->> 'name', ' b
                WHERE b.__x < (SELECT t.below FROM pgtrickle.trimmable($1) t)
                  AND b.__x <> ALL ((SELECT t.running FROM pgtrickle.trimmable($1) t)::xid8[])',
                CASE WHEN block IS NOT NULL THEN ' AND b.ctid >= $2 AND b.ctid < $3' END)
            USING (one ->> 'id')::bigint, pg_catalog.concat('(', block, ',0)')::tid,
                  pg_catalog.concat('(', block + step, ',0)')::tid;
            GET DIAGNOSTICS unseen = ROW_COUNT;
            gone := gone + unseen;
            block := block + step;
            EXIT WHEN block IS NULL OR block >= blocks;
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            PERFORM FROM pgtrickle.sources s WHERE s.id = (one ->> 'id')::bigint FOR UPDATE SKIP LOCKED;
            EXIT WHEN NOT FOUND OR pg_catalog.to_regclass(one ->> 'name') IS NULL;
        END LOOP;
        trimmed := pg_catalog.jsonb_insert(trimmed, '{0}', pg_catalog.jsonb_build_object(
            'id', one -> 'id', 'deleted', gone, 'emptied', emptied,
            'unindexed', (SELECT pg_catalog.count(*) > 1 FROM pgtrickle.dependencies d
                          WHERE d.source_id = (one ->> 'id')::bigint)
                         AND pg_catalog.to_regclass(pg_catalog.concat('pgtrickle_changes.b_', one ->> 'id', '_x')) IS NULL,
            'bytes', coalesce(pg_catalog.pg_relation_size(pg_catalog.to_regclass(one ->> 'name')), 0)));
    END LOOP;
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    SELECT pg_catalog.array_agg(pg_catalog.jsonb_build_object('id', l.id, 'name', l.oid::pg_catalog.regclass, 'own', l.own)
                                ORDER BY l.id)
    INTO several
    FROM (SELECT st.id, c.oid, false AS own
          FROM pgtrickle.stream_tables st
          JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgtrickle_changes'::pg_catalog.regnamespace
               AND c.relname = pg_catalog.concat('o_', st.id)::name
          WHERE only_for IS NULL
             OR EXISTS (SELECT FROM pgtrickle.dependencies d
                        WHERE d.source_stream_table_id = st.id AND d.stream_table_id = ANY (only_for))
          UNION ALL
          SELECT g.stream_table_id, c.oid, true
          FROM pgtrickle.stages g
          JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgtrickle_state'::pg_catalog.regnamespace
               AND c.relname = g.log_table
          WHERE only_for IS NULL OR g.stream_table_id = ANY (only_for)) AS l
    WHERE pg_catalog.pg_relation_size(l.oid) > 0;
    FOREACH one IN ARRAY coalesce(several, '{}') LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        BEGIN
            EXECUTE pg_catalog.concat('SELECT pg_catalog.count(*) FROM (
                SELECT FROM ', one ->> 'name', ' LIMIT 200000) AS s') INTO worth;
        EXCEPTION WHEN undefined_table THEN
            CONTINUE;
        END;
        CONTINUE WHEN worth = 0;
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
        -- What was consumed stays consumed, so that the number holds for all parts.
        block := CASE WHEN worth < 200000 THEN NULL ELSE 0 END;
        blocks := pg_catalog.pg_relation_size((one ->> 'name')::pg_catalog.regclass)
                  / pg_catalog.current_setting('block_size')::bigint;
        LOOP
            EXECUTE pg_catalog.concat('DELETE FROM ', one ->> 'name', ' l WHERE l.__n <= $1',
                CASE WHEN block IS NOT NULL THEN ' AND l.ctid >= $2 AND l.ctid < $3' END)
            USING held, pg_catalog.concat('(', block, ',0)')::tid, pg_catalog.concat('(', block + step, ',0)')::tid;
            GET DIAGNOSTICS gone = ROW_COUNT;
            log_rows := log_rows + gone;
            block := block + step;
            EXIT WHEN block IS NULL OR block >= blocks;
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            PERFORM FROM pgtrickle.stream_tables st WHERE st.id = (one ->> 'id')::bigint FOR NO KEY UPDATE SKIP LOCKED;
            EXIT WHEN NOT FOUND OR pg_catalog.to_regclass(one ->> 'name') IS NULL;
        END LOOP;
    END LOOP;
    report := pg_catalog.jsonb_build_object(
        'buffers', trimmed, 'log_rows', log_rows,
        'limit', (SELECT i.buffer_limit_bytes FROM pgtrickle.installation i),
        'unread', (SELECT coalesce(pg_catalog.array_agg(s.id), '{}') FROM pgtrickle.sources s
                   WHERE NOT EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)));
END
$$;

-- What went wrong is told in the words of the server, which may quote rows ('invalid input syntax for type integer: "..."').
-- Whoever may watch the server may see that something is wrong; what it is, only who may read what the engine reads.
CREATE OR REPLACE VIEW pgtrickle.stream_table_status AS
SELECT i.name::text AS name, i.schema::text AS schema, i.status,
       coalesce(i.stale, false) OR NOT i.is_populated AS stale,
       i.staleness, extract(epoch FROM i.staleness)::double precision AS staleness_seconds,
       i.consecutive_errors AS errors,
       CASE WHEN m.is_member THEN i.last_error WHEN i.last_error IS NOT NULL THEN m.instead END AS last_error,
       i.mode,
       CASE WHEN m.is_member THEN coalesce(i.status_reason, i.recompute_reason, i.mode_reason)
            WHEN coalesce(i.status_reason, i.recompute_reason) IS NOT NULL THEN m.instead
            ELSE i.mode_reason END AS reason,
       i.is_populated AS populated, i.schedule, i.last_refresh_at, i.data_timestamp
FROM pgtrickle.stream_tables_info i
CROSS JOIN (
    SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE') AS is_member,
           pg_catalog.format('(may quote rows: shown to members of %I)', pg_catalog.pg_get_userbyid(n.nspowner))
               COLLATE pg_catalog."default" AS instead
    FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle') m;

CREATE OR REPLACE VIEW pgtrickle.pg_stat_stream_tables AS
SELECT i.schema, i.name, i.status, i.mode, i.is_populated, i.schedule, i.staleness, i.stale, i.consecutive_errors,
       coalesce(h.total_refreshes, 0) AS total_refreshes,
       coalesce(h.successful_refreshes, 0) AS successful_refreshes,
       coalesce(h.failed_refreshes, 0) AS failed_refreshes,
       coalesce(h.rows_inserted, 0) AS total_rows_inserted,
       coalesce(h.rows_updated, 0) AS total_rows_updated,
       coalesce(h.rows_deleted, 0) AS total_rows_deleted,
       h.avg_duration_ms, l.action AS last_refresh_action,
       CASE WHEN m.is_member THEN l.reason WHEN l.reason IS NOT NULL THEN m.instead END AS last_refresh_reason,
       i.last_refresh_at,
       CASE WHEN m.is_member THEN i.last_error WHEN i.last_error IS NOT NULL THEN m.instead END AS last_error
FROM pgtrickle.stream_tables_info i
CROSS JOIN (
    SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE') AS is_member,
           pg_catalog.format('(may quote rows: shown to members of %I)', pg_catalog.pg_get_userbyid(n.nspowner))
               COLLATE pg_catalog."default" AS instead
    FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle') m
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

CREATE OR REPLACE FUNCTION pgtrickle.finish_group(written jsonb, members jsonb, settled jsonb, entries jsonb, trail jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM pgtrickle.refuse_own_writes(written);

    -- Functions and types are executed as they are at that moment, whatever the snapshot: some rows may have been computed
    -- by the old ones and some by the new ones.
    IF EXISTS (
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

    PERFORM pgtrickle.record_group(entries, trail);
END
$$;
