-- Questions to the system catalogs about stream tables and what depends on them.

-- name: resolve_name
-- A name as PostgreSQL reads it: where it would be created, and what it is now. Its path is a parameter, because this
-- session's is not the user's.
WITH parsed AS (SELECT pg_catalog.parse_ident(%(name)s::text) AS parts),
     target AS (
    SELECT parts, CASE WHEN pg_catalog.cardinality(parts) = 2 THEN parts[1] END AS given,
           parts[pg_catalog.cardinality(parts)] AS table_name
    FROM parsed),
     path AS (
    SELECT n.oid, n.nspname, p.position
    FROM target t
    CROSS JOIN LATERAL pg_catalog.unnest(CASE WHEN t.given IS NULL THEN %(path)s::text[] ELSE ARRAY[t.given] END)
                       WITH ORDINALITY AS p (schema, position)
    JOIN pg_catalog.pg_namespace n ON n.nspname = CASE p.schema WHEN '$user' THEN current_user ELSE p.schema::name END
    WHERE t.given IS NOT NULL OR pg_catalog.has_schema_privilege(n.oid, 'USAGE')),
     found AS (
    SELECT t.*, f.oid, f.relkind, coalesce(f.nspname, t.given::name, (
               SELECT p.nspname FROM path p ORDER BY p.position LIMIT 1)) AS schema_name
    FROM target t
    LEFT JOIN LATERAL (
        SELECT c.oid, c.relkind, p.nspname
        FROM path p JOIN pg_catalog.pg_class c ON c.relnamespace = p.oid AND c.relname = t.table_name::name
        WHERE pg_catalog.cardinality(t.parts) <= 2
        ORDER BY p.position LIMIT 1) f ON true)
SELECT pg_catalog.cardinality(f.parts) AS parts, f.schema_name, f.table_name, f.oid::bigint AS relid,
       f.relkind::text AS relkind,
       EXISTS (SELECT FROM pg_catalog.pg_namespace s WHERE s.nspname = f.schema_name) AS schema_exists,
       pg_catalog.format('%%I.%%I', f.schema_name, f.table_name) AS quoted
FROM found f

-- name: stream_table_oid
-- Only a plain name; what shadows it is a stream table, too, or the slower way finds it.
SELECT st.relid::bigint AS relid
FROM pg_catalog.parse_ident(%(name)s::text) AS n (parts)
CROSS JOIN LATERAL (
    SELECT c.oid
    FROM pg_catalog.unnest(CASE pg_catalog.cardinality(n.parts) WHEN 2 THEN n.parts[1:1]
                           WHEN 1 THEN %(path)s::text[] END) WITH ORDINALITY AS p (schema, position)
    JOIN pg_catalog.pg_namespace s ON s.nspname = CASE p.schema WHEN '$user' THEN current_user ELSE p.schema::name END
    JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
                              AND c.relname = n.parts[pg_catalog.cardinality(n.parts)]::name
    WHERE pg_catalog.has_schema_privilege(s.oid, 'USAGE')
    ORDER BY p.position LIMIT 1) c
JOIN pgtrickle.stream_tables st ON st.relid = c.oid

-- name: idle_logs
-- Output logs that nobody reads.
SELECT l.id FROM (
    SELECT pg_catalog.substr(c.relname, 3)::bigint AS id FROM pg_catalog.pg_class c
    WHERE c.relnamespace = pg_catalog.to_regnamespace('pgtrickle_changes') AND c.relkind = 'r'
      AND c.relname ~ '^o_[0-9]+$') l
WHERE NOT EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_stream_table_id = l.id)

-- name: table_columns
SELECT a.attnum::integer AS attnum, a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       a.atttypid::bigint AS type_oid, a.atttypmod AS typmod,
       CASE WHEN a.attcollation <> t.typcollation THEN pg_catalog.format('%%I.%%I', n.nspname, o.collname) END AS collation
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN (pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace) ON o.oid = a.attcollation
WHERE a.attrelid = %(relid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: present_name
SELECT n.nspname AS schema_name, c.relname AS table_name, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS quoted
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(relid)s

-- name: foreign_dependents
-- What PostgreSQL would drop along: views, materialized views, foreign keys, functions on the row type.
SELECT DISTINCT coalesce(
    (SELECT pg_catalog.pg_describe_object('pg_catalog.pg_class'::pg_catalog.regclass, r.ev_class, 0)
     FROM pg_catalog.pg_rewrite r WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid),
    pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)) AS description
FROM pg_catalog.pg_depend d
WHERE d.deptype = 'n'
  AND ((d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = %(relid)s)
       OR (d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
           AND d.refobjid = (SELECT c.reltype FROM pg_catalog.pg_class c WHERE c.oid = %(relid)s)))
  AND NOT (d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
           AND (SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.oid = d.objid) = %(relid)s)
  AND NOT (d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
           AND (SELECT k.conrelid FROM pg_catalog.pg_constraint k WHERE k.oid = d.objid) = %(relid)s)
ORDER BY 1

-- name: locators
SELECT c.relname AS name FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(relid)s AND c.relname LIKE 'pgtrickle\_locator\_%%'

-- name: has_unique_locator
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = %(relid)s AND i.indisunique AND c.relname LIKE 'pgtrickle\_locator\_%%')

-- name: is_constrained
-- Whether rows without values of these columns may be refused.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = %(relid)s AND a.attnum = ANY (%(columns)s::smallint[]) AND a.attnotnull)
  OR EXISTS (
    SELECT FROM pg_catalog.pg_constraint k
    WHERE k.conrelid = %(relid)s AND k.conkey && %(columns)s::smallint[])

-- name: user_indexes
SELECT c.relname AS name FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(relid)s

-- name: describe_view
SELECT n.nspname AS schema_name, c.relname AS object_name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s

-- name: describe_function
SELECT n.nspname AS schema_name, p.oid::pg_catalog.regprocedure::text AS object_name
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = %(oid)s

-- name: relid_of
SELECT c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s

-- name: describe_type
SELECT n.nspname AS schema_name, t.typname AS object_name
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = %(oid)s

-- name: describe_operator
SELECT n.nspname AS schema_name, o.oid::pg_catalog.regoperator::text AS object_name
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = %(oid)s

-- name: describe_collation
SELECT n.nspname AS schema_name, c.collname AS object_name
FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = %(oid)s

-- name: describe_ts_config
SELECT coalesce(n.nspname, 'pg_catalog') AS schema_name, coalesce(c.cfgname, 'text search configurations') AS object_name
FROM (SELECT %(oid)s::oid) AS o (oid)
LEFT JOIN (pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace) ON c.oid = o.oid
WHERE c.oid IS NOT NULL OR o.oid = 0

-- name: describe_ts_dict
SELECT n.nspname AS schema_name, d.dictname AS object_name
FROM pg_catalog.pg_ts_dict d JOIN pg_catalog.pg_namespace n ON n.oid = d.dictnamespace WHERE d.oid = %(oid)s

-- name: function_names
SELECT p.oid::bigint AS oid, n.nspname AS schema_name, p.proname AS name, p.proargtypes::text AS arguments
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = ANY (%(oids)s::oid[])

-- name: function_of
SELECT p.oid::bigint
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.proname = %(name)s AND p.proargtypes::text = %(arguments)s

-- name: quoted
SELECT pg_catalog.format('%%I.%%I', %(schema)s::text, %(name)s::text)

-- name: query_by_name
SELECT st.query
FROM pg_catalog.parse_ident(%(name)s::text) AS n (parts)
JOIN pgtrickle.stream_tables st ON st.table_name = n.parts[pg_catalog.cardinality(n.parts)]
WHERE st.schema_name = ANY (CASE pg_catalog.cardinality(n.parts) WHEN 2 THEN n.parts[1:1] ELSE %(path)s::text[] END)
LIMIT 1

-- name: missing_grants
-- Catalogs may be read by everybody, whatever the privileges on what they describe.
WITH RECURSIVE target AS (
    SELECT s.oid AS schema_oid, c.relowner AS owner
    FROM pg_catalog.parse_ident(%(name)s::text) AS n (parts)
    CROSS JOIN LATERAL (
        SELECT p.schema FROM pg_catalog.unnest(CASE pg_catalog.cardinality(n.parts) WHEN 2 THEN n.parts[1:1]
                                               ELSE %(path)s::text[] END) AS p (schema)
        WHERE p.schema <> '$user' LIMIT 1) p
    JOIN pg_catalog.pg_namespace s ON s.nspname = p.schema::name
    LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
                                   AND c.relname = n.parts[pg_catalog.cardinality(n.parts)]::name),
     who AS (
    SELECT r.oid AS me, coalesce((SELECT t.owner FROM target t), r.oid) AS role
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
     named AS (
    SELECT c.oid
    FROM ROWS FROM (pg_catalog.unnest(%(relation_schemas)s::text[]), pg_catalog.unnest(%(relations)s::text[]))
         AS r (schema, name)
    CROSS JOIN LATERAL (
        SELECT c.oid
        FROM pg_catalog.unnest(CASE WHEN r.schema IS NULL THEN %(path)s::text[] ELSE ARRAY[r.schema] END)
             WITH ORDINALITY AS p (schema, position)
        JOIN pg_catalog.pg_namespace n ON n.nspname = CASE p.schema WHEN '$user' THEN current_user ELSE p.schema::name END
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = r.name::name
        ORDER BY p.position LIMIT 1) c),
     read AS (
    SELECT oid FROM named
    UNION
    SELECT d.refobjid
    FROM read r
    JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid AND w.rulename = '_RETURN'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
                               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.oid),
     relation AS (
    SELECT c.oid, n.oid AS schema_oid, n.nspname, c.relname, c.relkind, c.relowner
    FROM read r JOIN pg_catalog.pg_class c ON c.oid = r.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')),
     called AS (
    SELECT DISTINCT p.oid, n.oid AS schema_oid, n.nspname
    FROM ROWS FROM (pg_catalog.unnest(%(function_schemas)s::text[]), pg_catalog.unnest(%(functions)s::text[]))
         AS f (schema, name)
    JOIN pg_catalog.pg_proc p ON p.proname = f.name::name
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> 'pg_catalog' AND n.nspname::text = ANY (
        CASE WHEN f.schema IS NULL THEN %(path)s::text[] ELSE ARRAY[f.schema] END)),
     used AS (
    SELECT schema_oid, nspname FROM relation UNION SELECT schema_oid, nspname FROM called)
SELECT g.text AS grant
FROM who w CROSS JOIN LATERAL (
    SELECT 1 AS position, pg_catalog.format('GRANT TEMPORARY ON DATABASE %%I TO %%I', pg_catalog.current_database(),
                                            pg_catalog.pg_get_userbyid(w.me)) AS text
    WHERE NOT pg_catalog.has_database_privilege(w.me, pg_catalog.current_database(), 'TEMPORARY')
    UNION ALL
    SELECT 2, pg_catalog.format('GRANT USAGE ON SCHEMA %%I TO %%I', u.nspname, pg_catalog.pg_get_userbyid(w.role))
    FROM used u WHERE NOT pg_catalog.has_schema_privilege(w.role, u.schema_oid, 'USAGE')
    UNION ALL
    SELECT 3, pg_catalog.format('GRANT %%s ON %%I.%%I TO %%I', p.lacking, r.nspname, r.relname,
                                pg_catalog.pg_get_userbyid(w.role))
    FROM relation r CROSS JOIN LATERAL (
        SELECT pg_catalog.concat_ws(', ',
            CASE WHEN NOT pg_catalog.has_table_privilege(w.role, r.oid, 'SELECT') THEN 'SELECT' END,
            CASE WHEN r.relkind IN ('r', 'p') AND NOT pg_catalog.has_table_privilege(w.role, r.oid, 'TRIGGER')
                      AND NOT EXISTS (SELECT FROM pgtrickle.stream_tables st WHERE st.relid = r.oid)
                 THEN 'TRIGGER' END) AS lacking) p
    WHERE p.lacking <> ''
    UNION ALL
    SELECT 4, pg_catalog.format('GRANT EXECUTE ON FUNCTION %%s TO %%I', c.oid::pg_catalog.regprocedure,
                                pg_catalog.pg_get_userbyid(w.role))
    FROM called c WHERE NOT pg_catalog.has_function_privilege(w.role, c.oid, 'EXECUTE')
    UNION ALL
    SELECT 5, pg_catalog.format('GRANT %%s ON SCHEMA %%I TO %%I', p.lacking, n.nspname, pg_catalog.pg_get_userbyid(w.role))
    FROM target t JOIN pg_catalog.pg_namespace n ON n.oid = t.schema_oid CROSS JOIN LATERAL (
        SELECT pg_catalog.concat_ws(', ',
            CASE WHEN NOT pg_catalog.has_schema_privilege(w.role, n.oid, 'USAGE') THEN 'USAGE' END,
            CASE WHEN t.owner IS NULL AND NOT pg_catalog.has_schema_privilege(w.role, n.oid, 'CREATE')
                 THEN 'CREATE' END) AS lacking) p
    WHERE p.lacking <> ''
    UNION ALL
    SELECT 6, pg_catalog.format('GRANT %%I TO %%I', pg_catalog.pg_get_userbyid(o.oid), pg_catalog.pg_get_userbyid(w.me))
              || CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000
                      THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END
    FROM (SELECT n.nspowner AS oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle' UNION SELECT w.role) o
    WHERE o.oid <> w.me
      AND NOT CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000
                   THEN pg_catalog.pg_has_role(w.me, o.oid, 'SET') AND pg_catalog.pg_has_role(w.me, o.oid, 'USAGE')
                   ELSE pg_catalog.pg_has_role(w.me, o.oid, 'USAGE') END) g
ORDER BY g.position, g.text
