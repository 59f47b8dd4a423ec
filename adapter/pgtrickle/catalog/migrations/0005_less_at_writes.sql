-- What trigger functions ask of the catalog. Called with constants these are computed when the caller's statement is
-- planned, and kept with the plan. PostgreSQL makes the plan again when a table of which a regclass stands in it has
-- changed: so statements pay nothing for them. That is what they are declared immutable for, which they are only as long
-- as nobody alters, attaches or detaches.

-- Whether a table has columns of these names and types, as statements of this moment see it, whatever the snapshot of the
-- transaction: the parser is asked, which reads the catalog as it is. NULL: it cannot be said.
CREATE FUNCTION pgtrickle.columns_fit(source regclass, names text[], types regtype[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fits boolean;
BEGIN
    EXECUTE concat('SELECT true', (
        SELECT string_agg(format(' AND pg_typeof((NULL::%s).%I) = %L::regtype', source, u.name, u.type::oid), '')
        FROM unnest(names, types) AS u (name, type)
    )) INTO fits;
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

-- How many tables hang directly below these, each counted for each of its parents; in the snapshot of the statement. Who
-- reaches a table through its parent has locked it, and so has waited for who has put it there, and heard of it.
CREATE FUNCTION pgtrickle.links_below(parents regclass[]) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = ANY (parents::oid[]));
END
$$;
