-- A dead runner fills no disk, whatever the isolation level (space): a transaction with an old snapshot may trust what it shows
-- of the overflows only if it is of the epoch that its trigger function is of. When capture begins again, functions are
-- replaced while writers are locked out. What earlier functions have written is of no epoch that is trusted.
ALTER TABLE pgtrickle.sources ADD COLUMN epoch bigint NOT NULL DEFAULT 1;
ALTER TABLE pgtrickle.overflows ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

-- Of sources that are gone.
DELETE FROM pgtrickle.overflows o WHERE NOT EXISTS (SELECT FROM pgtrickle.sources s WHERE s.id = o.source_id);

-- What a trim costs (speed): a change buffer that can be emptied at once is read once before, not twice, the first time by its
-- index; and of one that cannot, what was there is not told as deleted.

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
    middling boolean;
    consumed boolean;
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
            -- A smaller one is deleted from and vacuumed as fast; to read a larger one takes too long.
            middling := pg_catalog.pg_relation_size((one ->> 'name')::pg_catalog.regclass) BETWEEN 262144 AND 16777216;
            IF middling THEN
                SELECT t.below, t.running INTO below, running FROM pgtrickle.trimmable((one ->> 'id')::bigint) t;
                EXECUTE pg_catalog.concat('SELECT EXISTS (SELECT FROM ', one ->> 'name', ' b
                                           WHERE b.__x < $1 AND b.__x <> ALL ($2))') INTO consumed USING below, running;
                worth := 0;
                IF consumed THEN
                    EXECUTE pg_catalog.concat('
                        SELECT pg_catalog.count(*),
                               pg_catalog.count(*) FILTER (WHERE (b.__x < $1 AND b.__x <> ALL ($2)) IS NOT TRUE)
                        FROM ', one ->> 'name', ' b') INTO gone, unseen USING below, running;
                    worth := gone - unseen;
                END IF;
            ELSE
                EXECUTE pg_catalog.concat('SELECT pg_catalog.count(*) FROM (
                    SELECT FROM ', one ->> 'name', ' b
                    WHERE b.__x < (SELECT t.below FROM pgtrickle.trimmable($1) t) LIMIT 200000) AS s')
                INTO worth USING (one ->> 'id')::bigint;
            END IF;
        EXCEPTION WHEN undefined_table THEN
            CONTINUE;
        END;
        IF worth > 0 THEN
            PERFORM FROM pgtrickle.sources s WHERE s.id = (one ->> 'id')::bigint FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND OR pg_catalog.to_regclass(one ->> 'name') IS NULL;
            IF middling AND unseen = 0 THEN
                SELECT t.below, t.running INTO below, running FROM pgtrickle.trimmable((one ->> 'id')::bigint) t;
                emptied := below IS NOT NULL AND pgtrickle.empty_buffer(one ->> 'name', below, running);
            END IF;
        END IF;
        gone := CASE WHEN emptied THEN gone ELSE 0 END;
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
