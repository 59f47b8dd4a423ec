-- What faults, schema changes and dead runners need from the catalog.
SELECT 'the sections of this migration follow' WHERE false;

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
