-- What faults, schema changes and dead runners need from the catalog.

-- What capture has not met: the tables with rows below a source as statements of this moment reach them, whatever the
-- snapshot of the transaction. No query of pg_inherits shows what was attached after a REPEATABLE READ transaction took
-- its snapshot; pg_partition_tree and the planner do, because they read the catalog as it is. NULL: it cannot be said.
CREATE FUNCTION pgtrickle.tables_below(source regclass) RETURNS oid[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = on SET lock_timeout = '50ms' AS $$
DECLARE
    found oid[];
    plan jsonb;
BEGIN
    BEGIN
        SELECT array_agg(t.relid::oid) INTO found FROM pg_partition_tree(source) AS t WHERE t.isleaf;
        IF found IS NULL THEN
            EXECUTE format('EXPLAIN (VERBOSE, COSTS off, FORMAT json) SELECT FROM %s', source) INTO plan;
            SELECT array_agg(to_regclass(format('%I.%I', n ->> 'Schema', n ->> 'Relation Name'))::oid) INTO found
            FROM jsonb_path_query(plan, 'strict $.**') AS n
            WHERE jsonb_typeof(n) = 'object' AND n ? 'Relation Name';
        END IF;
        -- A transaction keeps the locks of what succeeds in it: the writer shall not hold up DROP of the other partitions.
        RAISE EXCEPTION USING ERRCODE = 'PGT00', MESSAGE = 'the locks are not needed any more';
    EXCEPTION
        WHEN SQLSTATE 'PGT00' THEN
            NULL;
        WHEN OTHERS THEN  -- it was locked, for example: the writer neither waits for that nor fails
            RETURN NULL;
    END;
    RETURN found;
END
$$;

-- Called with constants it is computed when the caller's query is planned, and kept with the plan. PostgreSQL makes the
-- plan again when a table of which a regclass stands in the query has changed: so statements pay nothing for it.
-- That is what it is declared immutable for, which it is only as long as nobody attaches or detaches.
CREATE FUNCTION pgtrickle.unmet_tables(source regclass, parents regclass[], known oid[]) RETURNS oid[]
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found oid[] := pgtrickle.tables_below(source);
BEGIN
    RETURN CASE WHEN found IS NOT NULL THEN ARRAY (SELECT unnest(found) EXCEPT SELECT unnest(known)) END;
END
$$;

-- Sources whose change buffers have reached their limit: capture has stopped, and every consumer has to recompute. Only
-- inserted into by writers (a row that several of them update would make them wait for each other), so the same source
-- may be here several times. Deleted from by who lets capture begin again, while writers of the source are locked out.
CREATE TABLE pgtrickle.overflows (
    source_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE pgtrickle.overflows REPLICA IDENTITY FULL;

-- Space, for any role that watches: how full each change buffer is, who holds it back, and whether capture has stopped.
CREATE VIEW pgtrickle.change_buffers AS
SELECT coalesce(n.nspname, s.schema_name)::text AS schema, coalesce(c.relname, s.table_name)::text AS name, s.relid,
       coalesce(pg_catalog.pg_total_relation_size(b.oid), 0) AS bytes, i.buffer_limit_bytes AS limit_bytes,
       o.since AS stopped_since, k.consumers, k.demoted, k.furthest_behind, k.behind_since
FROM pgtrickle.sources s
CROSS JOIN pgtrickle.installation i
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = s.relid
LEFT JOIN pg_catalog.pg_class b ON b.relname = 'b_' || s.id
     AND b.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgtrickle_changes')
LEFT JOIN LATERAL (SELECT min(v.at) AS since FROM pgtrickle.overflows v WHERE v.source_id = s.id) o ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS consumers, count(*) FILTER (WHERE st.demoted) AS demoted,
           (array_agg(format('%I.%I', st.schema, st.name) ORDER BY pg_snapshot_xmax(st.snapshot) NULLS FIRST, st.id)
            FILTER (WHERE NOT st.demoted))[1] AS furthest_behind,
           (array_agg(st.data_timestamp ORDER BY pg_snapshot_xmax(st.snapshot) NULLS FIRST, st.id)
            FILTER (WHERE NOT st.demoted))[1] AS behind_since
    FROM (SELECT t.id, e.schema, e.name, t.demoted, f.snapshot, f.data_timestamp
          FROM pgtrickle.stream_tables t
          JOIN pgtrickle.stream_tables_info e ON e.id = t.id
          LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = t.id
          WHERE t.id IN (SELECT d.stream_table_id FROM pgtrickle.dependencies d WHERE d.source_id = s.id)) st) k ON true;

-- Whoever may watch the server may see how fresh stream tables are.
GRANT USAGE ON SCHEMA pgtrickle TO pg_monitor;
GRANT SELECT ON pgtrickle.stream_table_status, pgtrickle.quick_health, pgtrickle.pg_stat_stream_tables,
    pgtrickle.change_buffers TO pg_monitor;

-- Empties a change buffer all of whose rows every consumer has seen, if nobody is at it: to delete and vacuum many rows
-- costs as much as a refresh. The lock is not waited for, and held for the milliseconds that reading so short a buffer takes;
-- writers that come meanwhile wait for it. A refresh that has read the buffer holds a lock; one that has not will find
-- nothing that was its own, because what is missing was visible in its frontier. `below` NULL: nobody needs any of it.
CREATE OR REPLACE FUNCTION pgtrickle.empty_buffer(buffer text, below xid8, running xid8[]) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unseen boolean;
BEGIN
    EXECUTE concat('LOCK TABLE ', buffer, ' IN ACCESS EXCLUSIVE MODE NOWAIT');
    IF below IS NOT NULL THEN
        EXECUTE concat('SELECT EXISTS (SELECT FROM ', buffer, ' b WHERE b.__x >= $1 OR b.__x = ANY ($2))')
        INTO unseen USING below, running;
    END IF;
    IF unseen THEN
        RAISE SQLSTATE 'PT002';
    END IF;
    EXECUTE concat('TRUNCATE ', buffer);
    RETURN true;
EXCEPTION WHEN lock_not_available OR SQLSTATE 'PT002' THEN
    RETURN false;
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
                         AND pg_catalog.to_regclass(pg_catalog.concat(one ->> 'name', '_x')) IS NULL,
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

-- Restored and copied databases (faults). A dump, a template, pg_upgrade: OIDs and transaction ids that the catalog holds are
-- those of another database. The OID of our own table tells a catalog that was restored into the database it came from.
ALTER TABLE pgtrickle.installation ADD COLUMN catalog_oid oid;
UPDATE pgtrickle.installation i SET catalog_oid = 'pgtrickle.installation'::regclass
FROM pg_control_system() s, pg_database d
WHERE d.datname = current_database() AND i.system_identifier = s.system_identifier::text AND i.database_oid = d.oid;

-- Whether the catalog was made in another database than the one that it is in.
CREATE FUNCTION pgtrickle.is_elsewhere() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pgtrickle.installation i, pg_control_system() s, pg_database d
        WHERE d.datname = current_database()
          AND (i.system_identifier, i.database_oid, i.catalog_oid)
              IS DISTINCT FROM (s.system_identifier::text, d.oid, 'pgtrickle.installation'::regclass::oid))
$$;

-- Binds a catalog to the database that it is in: everything by name, nothing of what the other database knew is trusted.
-- What a name does not find gets an OID that no relation has, so that it counts as dropped. False: somebody else was faster.
-- Stream tables keep their content; that their definitions have no shape makes the next refresh compile them, capture what
-- they read, build their state and recompute them.
CREATE FUNCTION pgtrickle.rebind() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one record;
    why constant text := 'the database was restored or copied: what the catalog knew is about another one';
BEGIN
    PERFORM FROM pgtrickle.installation FOR UPDATE;
    IF NOT pgtrickle.is_elsewhere() THEN
        RETURN false;
    END IF;
    -- A dump may leave out what is of no use elsewhere.
    IF to_regnamespace('pgtrickle_changes') IS NULL THEN
        CREATE SCHEMA pgtrickle_changes;
    END IF;
    IF to_regnamespace('pgtrickle_state') IS NULL THEN
        CREATE SCHEMA pgtrickle_state;
    END IF;
    -- Waits for refreshes.
    PERFORM FROM pgtrickle.frontiers f ORDER BY f.stream_table_id FOR UPDATE;
    DELETE FROM pgtrickle.runners;
    DELETE FROM pgtrickle.source_tables;
    DELETE FROM pgtrickle.overflows;
    DELETE FROM pgtrickle.dependencies WHERE kind IN ('view', 'function', 'type');
    UPDATE pgtrickle.frontiers SET snapshot = NULL, consumed = '{}';
    UPDATE pgtrickle.stream_tables SET relid = (4294967295 - id)::oid;
    UPDATE pgtrickle.sources SET relid = (4294967295 - id)::oid;
    UPDATE pgtrickle.dependencies SET relid = (4294967295 - position)::oid, columns = '{}';

    -- A name may have been taken by a table that is none of ours; a stream table that was renamed has an index of ours.
    UPDATE pgtrickle.stream_tables st SET relid = n.relid, schema_name = n.schema_name, table_name = n.table_name
    FROM (SELECT DISTINCT ON (c.oid) t.id, c.oid AS relid, s.nspname AS schema_name, c.relname AS table_name
          FROM pgtrickle.stream_tables t
          JOIN pg_class c ON c.oid = to_regclass(format('%I.%I', t.schema_name, t.table_name))
               OR c.oid IN (SELECT i.indrelid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                            WHERE x.relname ~ concat('^pgtrickle_locator_', t.id, '_'))
          JOIN pg_namespace s ON s.oid = c.relnamespace
          WHERE c.relkind = 'r' AND s.nspname <> 'pgtrickle_state'
            AND EXISTS (SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
                        WHERE g.tgrelid = c.oid AND p.oid = 'pgtrickle.refuse_write'::regproc)
          ORDER BY c.oid, (s.nspname, c.relname) IS DISTINCT FROM (t.schema_name, t.table_name)) n
    WHERE st.id = n.id;
    UPDATE pgtrickle.stream_tables
    SET fingerprint = NULL, recompute_reason = why, demoted = false, retry_at = NULL,
        definition = definition - '{shape,checked}'::text[]
                     || jsonb_build_object('version', trunc(random() * 1e15)::bigint);

    -- A source that was renamed has triggers of ours.
    UPDATE pgtrickle.sources o SET relid = n.relid
    FROM (SELECT DISTINCT ON (f.relid) f.id, f.relid
          FROM (SELECT s.id, to_regclass(format('%I.%I', s.schema_name, s.table_name))::oid AS relid, false AS renamed
                FROM pgtrickle.sources s
                UNION ALL
                SELECT s.id, g.tgrelid, true
                FROM pgtrickle.sources s
                JOIN pg_proc p ON p.pronamespace = 'pgtrickle_changes'::regnamespace
                     AND p.proname IN (concat('f_', s.id), concat('r_', s.id), concat('t_', s.id))
                JOIN pg_trigger g ON g.tgfoid = p.oid
                WHERE to_regclass(format('%I.%I', s.schema_name, s.table_name)) IS NULL
                  AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_trigger a ON a.tgrelid = i.inhparent
                                  JOIN pg_proc q ON q.oid = a.tgfoid AND q.pronamespace = p.pronamespace
                                  WHERE i.inhrelid = g.tgrelid
                                    AND q.proname IN (concat('f_', s.id), concat('r_', s.id)))) f
          WHERE f.relid IS NOT NULL
          ORDER BY f.relid, f.renamed, f.id) n
    WHERE o.id = n.id;
    UPDATE pgtrickle.sources
    SET columns = '{}', generation = generation + 1, partition_constraint = NULL, capture = 'mark';

    UPDATE pgtrickle.dependencies d SET relid = s.relid FROM pgtrickle.sources s WHERE s.id = d.source_id;
    UPDATE pgtrickle.dependencies d SET relid = st.relid
    FROM pgtrickle.stream_tables st WHERE st.id = d.source_stream_table_id;
    UPDATE pgtrickle.dependencies d SET relid = to_regclass(format('%I.%I', d.schema_name, d.object_name))
    WHERE d.kind = 'uncaptured' AND to_regclass(format('%I.%I', d.schema_name, d.object_name)) IS NOT NULL;

    -- Their transaction ids are those of another cluster. Writers are not kept waiting.
    FOR one IN
        SELECT c.relname AS name FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('pgtrickle_changes') AND c.relkind = 'r' AND c.relname ~ '^b_[0-9]+$'
    LOOP
        EXECUTE format('DELETE FROM pgtrickle_changes.%I', one.name);
    END LOOP;
    -- Their columns are numbered as those of the stream tables were.
    FOR one IN
        SELECT c.relname AS name FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('pgtrickle_changes') AND c.relkind = 'r' AND c.relname ~ '^o_[0-9]+$'
    LOOP
        EXECUTE format('DROP TABLE pgtrickle_changes.%I', one.name);
    END LOOP;
    UPDATE pgtrickle.installation i
    SET system_identifier = s.system_identifier::text, database_oid = d.oid,
        catalog_oid = 'pgtrickle.installation'::regclass
    FROM pg_control_system() s, pg_database d WHERE d.datname = current_database();
    RETURN true;
END
$$;

-- Facts about schema changes (ddl): names of functions and of the columns of views, so that they can be followed; what happens
-- to the stream table itself; trigger functions and change buffers, which are part of what captures.
UPDATE pgtrickle.source_tables t
SET triggers = coalesce((
    SELECT jsonb_object_agg(r.key, concat(r.value, ':', p.xmin))
    FROM jsonb_each_text(t.triggers) r
    LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.relid AND g.tgname = r.key
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid), '{}');

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
                pg_get_function_sqlbody(p.oid), jsonb_build_array(n.nspname, p.proname), p.oid IS NOT NULL))
            FROM pgtrickle.dependencies d LEFT JOIN pg_proc p ON p.oid = d.relid
            LEFT JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'function'), '{}'),
        'types', coalesce((
            SELECT jsonb_object_agg(d.relid::text, (
                SELECT coalesce(jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
                FROM pg_enum e WHERE e.enumtypid = d.relid))
            FROM pgtrickle.dependencies d
            WHERE d.stream_table_id = f.stream_table_id AND d.kind = 'type'), '{}'),
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

-- Raises unless the catalog has the version that an engine knows: it may have been migrated since the engine connected, and
-- what the engine does not know of, it would not do. Said in every refresh, before there is a snapshot that counts.
CREATE FUNCTION pgtrickle.require_version(known integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present integer := (SELECT max(m.version) FROM pgtrickle.schema_migrations m);
BEGIN
    IF present <> known THEN
        RAISE EXCEPTION 'the catalog has version %, this engine knows %', present, known
            USING ERRCODE = 'PT003', HINT = 'Upgrade dbt-pgtrickle here to the version that other hosts use, and start again.';
    END IF;
END
$$;

-- Engines up to catalog 3 do not ask. They would not notice that capture has stopped, so that they must not refresh; this
-- is what each of their refreshes calls first.
ALTER FUNCTION pgtrickle.refresh_group(oid[]) RENAME TO group_members;
CREATE FUNCTION pgtrickle.refresh_group(relids oid[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the catalog has version %, this engine is older', (SELECT max(m.version) FROM pgtrickle.schema_migrations m)
        USING ERRCODE = 'PT003', HINT = 'Upgrade dbt-pgtrickle here to the version that other hosts use, and start again.';
END
$$;

-- What everybody has seen, without any consumer (storm): what is running now has to be named then, because a consumer
-- that comes back between this look and the lock on the buffer will need what is committed in between.
CREATE OR REPLACE FUNCTION pgtrickle.trimmable(source bigint, OUT below xid8, OUT running xid8[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN c.loading THEN '0'::xid8 WHEN c.number = 0 THEN pg_snapshot_xmax(e.snapshot)
                ELSE c.xmax::text::xid8 END,
           coalesce(CASE WHEN c.number = 0 THEN ARRAY (SELECT pg_snapshot_xip(e.snapshot)) ELSE c.running END, '{}')
    FROM (SELECT count(*) AS number, coalesce(bool_or(f.snapshot IS NULL), false) AS loading,
                 min(pg_snapshot_xmax(f.snapshot)::text::numeric) AS xmax,
                 (SELECT array_agg(DISTINCT x.xid::text::numeric)::text::xid8[]
                  FROM unnest(array_agg(f.snapshot)) AS s (snapshot)
                  CROSS JOIN LATERAL pg_snapshot_xip(s.snapshot) AS x (xid)) AS running
          FROM pgtrickle.dependencies d
          JOIN pgtrickle.stream_tables st ON st.id = d.stream_table_id AND NOT st.demoted
          LEFT JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
          WHERE d.source_id = source) AS c,
         (SELECT pg_current_snapshot() AS snapshot) AS e
$$;

-- What is fixed in a refresh: it begins and ends with one function each, and a session that has just refreshed a stream
-- table need not be told again what it knows.

-- Says for each stream table, in the order of `ids`, which versions of which rows what a refresh knows of it was read from:
-- its own rows of the catalog, and the rows of PostgreSQL's that `fingerprint` and `group_members` read. As long as it is the
-- same text, they would answer the same, and it takes two thirds of the time. Rows are told by the transaction that wrote
-- them; whatever is printed by the names of other things is in it as printed. NULL: it cannot be said so shortly.
-- A fact that `fingerprint` learns has to be learned here, too.
CREATE FUNCTION pgtrickle.versions(ids bigint[])
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN ARRAY (
        SELECT concat(current_user, ' ', st.xmin, ' ', c.xmin, ' ', n.xmin, ' ', pg_get_userbyid(c.relowner), ' ',
                      (SELECT array_agg(a.xmin) FROM pg_attribute a WHERE a.attrelid = st.relid AND a.attnum > 0), ' ',
                      (SELECT array_agg(g.xmin) FROM pg_trigger g WHERE g.tgrelid = st.relid), ' ')
               || read.versions
        FROM unnest(ids) WITH ORDINALITY AS u (id, position)
        LEFT JOIN (pgtrickle.stream_tables st
                   JOIN pg_class c ON c.oid = st.relid
                   JOIN pg_namespace n ON n.oid = c.relnamespace)
               ON st.id = u.id AND st.fingerprint
                  - '{cluster,xmax,frontier_xmax,canary,relations,views,functions,types,own}'::text[] = '{}'
        LEFT JOIN LATERAL (
            SELECT CASE WHEN bool_and(e.version IS NOT NULL) THEN string_agg(e.version, ';') END AS versions
            FROM (
                SELECT concat(d.xmin, ' ') || CASE d.kind
                    WHEN 'view' THEN (
                        SELECT concat(v.oid, ' ', (SELECT array_agg(a.xmin) FROM pg_attribute a
                                                   WHERE a.attrelid = v.oid AND a.attnum > 0), ' ') || pg_get_viewdef(v.oid)
                        FROM (SELECT to_regclass(format('%I.%I', d.schema_name, d.object_name))::oid) AS v (oid))
                    -- A body that was parsed at once is printed by the names of what it uses.
                    WHEN 'function' THEN (
                        SELECT concat(p.xmin, ' ', m.xmin)
                        FROM pg_proc p JOIN pg_namespace m ON m.oid = p.pronamespace
                        WHERE p.oid = d.relid AND p.prosqlbody IS NULL)
                    WHEN 'type' THEN (
                        SELECT coalesce(array_agg(l.xmin)::text, '') FROM pg_enum l WHERE l.enumtypid = d.relid)
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
                                       WHERE t.source_id = d.source_id), ' ')
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

-- What a change buffer holds after a snapshot: the number of rows, counted up to `cap` (NULL: all), whether there is a mark among
-- them, and as given whether capture has overflowed.
CREATE FUNCTION pgtrickle.count_window(buffer text, since pg_snapshot, cap bigint, overflowed boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found jsonb;
BEGIN
    -- The first arm is a range of the index, the others are single values: no function is called per row.
    EXECUTE concat('
        SELECT jsonb_build_array(count(*), coalesce(bool_or(w.__w = 0), false), $4)
        FROM (SELECT b.__w FROM ', buffer, ' b WHERE b.__x >= $1 OR b.__x = ANY ($2) LIMIT $3) w')
    INTO found USING pg_snapshot_xmax(since), ARRAY (SELECT pg_snapshot_xip(since)), cap, overflowed;
    RETURN found;
END
$$;

-- Locks the frontiers of a group and reads what may have moved since the group was read. In REPEATABLE READ a frontier
-- that moved after the snapshot raises 40001. The facts of those that take part are compared here: what is as it was
-- recorded, which is nearly always so, is not sent. Only what a difference means is the engine's business.
-- `known`: what `versions` has said of `ids`; if it says something else now, nothing but that is of interest. Empty:
-- the facts are looked at, and the versions before them, so that they never are newer. NULL: nobody wants versions.
-- `wanted`: windows to be counted; objects with `id` of a stream table, `relid`, `source_id` and `buffer` of a source, `cap`.
DROP FUNCTION pgtrickle.lock_group(bigint[], bigint[]);
CREATE FUNCTION pgtrickle.lock_group(ids bigint[], running bigint[], known text[], wanted jsonb)
RETURNS TABLE (id bigint, snapshot text, refresh_no bigint, consumed jsonb, cost jsonb, is_populated boolean,
               recompute_reason text, status text, demoted boolean, version text, has_log boolean, now_snapshot text,
               started_at text, fingerprint jsonb, same boolean, facts jsonb, versions text, windows jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    found text[] := CASE WHEN known IS NOT NULL THEN pgtrickle.versions(ids) END;
BEGIN
    PERFORM FROM pgtrickle.frontiers f WHERE f.stream_table_id = ANY (ids) ORDER BY f.stream_table_id FOR UPDATE;
    IF known <> '{}' THEN
        RETURN QUERY
        SELECT f.stream_table_id, f.snapshot::text, f.refresh_no, f.consumed, f.cost, st.is_populated, st.recompute_reason,
               st.status, st.demoted, st.definition ->> 'version',
               EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = st.id),
               pg_current_snapshot()::text,
               to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               NULL::jsonb, found = known, NULL::jsonb, found[array_position(ids, st.id)],
               CASE WHEN found = known THEN
                   (SELECT jsonb_object_agg(w.relid, pgtrickle.count_window(w.buffer, f.snapshot, w.cap,
                EXISTS (SELECT FROM pgtrickle.overflows o WHERE o.source_id = w.source_id)))
                    FROM jsonb_to_recordset(wanted) AS w (id bigint, relid bigint, source_id bigint, buffer text, cap bigint)
                    WHERE w.id = st.id AND f.snapshot IS NOT NULL) END
        FROM pgtrickle.frontiers f
        JOIN pgtrickle.stream_tables st ON st.id = f.stream_table_id
        WHERE f.stream_table_id = ANY (ids);
        RETURN;
    END IF;
    RETURN QUERY
    SELECT f.stream_table_id, f.snapshot::text, f.refresh_no, f.consumed, f.cost, st.is_populated, st.recompute_reason,
           st.status, st.demoted, st.definition ->> 'version',
           EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = st.id),
           pg_current_snapshot()::text,
           -- The definition's own DateStyle is in force by now, so the time is spelled out.
           to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           CASE WHEN NOT c.same THEN st.fingerprint END, c.same,
           CASE WHEN NOT c.same OR jsonb_path_exists(p.facts, '$.relations.*.family ? (@ != null)') THEN p.facts END,
           found[array_position(ids, st.id)],
           (SELECT jsonb_object_agg(w.relid, pgtrickle.count_window(w.buffer, f.snapshot, w.cap,
                EXISTS (SELECT FROM pgtrickle.overflows o WHERE o.source_id = w.source_id)))
            FROM jsonb_to_recordset(wanted) AS w (id bigint, relid bigint, source_id bigint, buffer text, cap bigint)
            WHERE w.id = st.id AND f.snapshot IS NOT NULL)
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

-- Begins a refresh when its sources are locked: settings, and then `lock_group`. In one statement, because each one costs
-- more to be read and planned than to be executed. It has no settings of its own, or it could not change those of the
-- transaction, so that names are written out.
CREATE FUNCTION pgtrickle.begin_group(
    engine integer, settings jsonb, ids bigint[], running bigint[], known text[], wanted jsonb)
RETURNS TABLE (id bigint, snapshot text, refresh_no bigint, consumed jsonb, cost jsonb, is_populated boolean,
               recompute_reason text, status text, demoted boolean, version text, has_log boolean, now_snapshot text,
               started_at text, fingerprint jsonb, same boolean, facts jsonb, versions text, windows jsonb)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pgtrickle.require_version(engine);
    PERFORM pg_catalog.set_config(s.key, s.value, true) FROM pg_catalog.jsonb_each_text(settings) AS s;
    -- Read by the guard trigger of stream tables: only a refresh may write to them.
    PERFORM pg_catalog.set_config('pgtrickle.refreshing', pg_catalog.pg_backend_pid()::text, true);
    -- A delta looks up a few rows in tables that were written a moment ago, so their pages are in memory. With the
    -- default costs of a spinning disk the planner reads a whole state table instead of 3 % of it by its index.
    PERFORM pg_catalog.set_config('random_page_cost', least(
        1.1, pg_catalog.current_setting('random_page_cost')::pg_catalog.float8)::text, true);
    RETURN QUERY SELECT l.* FROM pgtrickle.lock_group(ids, running, known, wanted) AS l;
END
$$;

-- Ends a refresh: moves frontiers, forgets errors and requests of those that succeeded, adds to history and trail.
-- Stream tables and trail are written only where something changes, in most refreshes nowhere: a row that is not
-- touched needs neither a lock nor a new version.
-- `written`: change buffers of its sources, by OID of the source. A refresh that has written to one has changed its own
-- source and must not commit. The server counts what a session inserts, if it is told to; only where it has counted
-- something (it may have been undone) the buffer is read.
DROP FUNCTION pgtrickle.finish_group(jsonb, jsonb, jsonb, jsonb);
CREATE FUNCTION pgtrickle.finish_group(written jsonb, members jsonb, settled jsonb, entries jsonb, trail jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM pgtrickle.refuse_own_writes(written);

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

-- Raises if this very transaction has written to one of these change buffers; OIDs of their sources in the detail.
DROP FUNCTION pgtrickle.refuse_own_writes(bigint[]);
CREATE FUNCTION pgtrickle.refuse_own_writes(written jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source text;
    buffer text;
    found boolean;
    relids text[] := '{}';
BEGIN
    FOR source, buffer IN SELECT w.key, w.value FROM jsonb_each_text(written) AS w LOOP
        CONTINUE WHEN current_setting('track_counts') = 'on'
                      AND pg_stat_get_xact_tuples_inserted(buffer::regclass) = 0;
        EXECUTE concat('SELECT EXISTS (SELECT FROM ', buffer, ' b WHERE b.__x = pg_current_xact_id_if_assigned())') INTO found;
        IF found THEN
            relids := relids || source;
        END IF;
    END LOOP;
    IF relids <> '{}' THEN
        RAISE EXCEPTION 'the refresh itself changed its sources'
            USING ERRCODE = 'PT001', DETAIL = array_to_string(relids, ' ');
    END IF;
END
$$;

-- Adds to the history, and to the trail where a gate has decided otherwise than the last time.
CREATE OR REPLACE FUNCTION pgtrickle.record_group(entries jsonb, trail jsonb)
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

    IF trail <> '[]' THEN
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
    END IF;
END
$$;

-- Least privilege. What default privileges gave to others on the schemas of change buffers and state goes: buffers hold
-- rows of every source, also of those that these others may not read.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', n.nspname,
                                 CASE a.grantee WHEN 0 THEN 'PUBLIC'
                                 ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
        FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
        WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND a.grantee <> n.nspowner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- Buffers, state and trigger functions belong to the engine's role, whichever of its members made them: the others have
-- to work with them. To be called in the transaction that made them.
CREATE FUNCTION pgtrickle.hand_over() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    me oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user);
    ours oid := (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'pgtrickle');
    statement text;
BEGIN
    IF me = ours THEN
        RETURN;
    END IF;
    FOR statement IN
        SELECT format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(ours))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND c.relkind = 'r' AND c.relowner = me
        UNION ALL
        SELECT format('ALTER FUNCTION %I.%I() OWNER TO %I', n.nspname, p.proname, pg_get_userbyid(ours))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'pgtrickle_changes' AND p.pronargs = 0 AND p.proowner = me
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
