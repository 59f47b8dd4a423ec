-- name: pinned_settings
SELECT name, setting
FROM pg_catalog.pg_settings
WHERE name = ANY (%(names)s)

-- name: view_text
SELECT pg_catalog.pg_get_viewdef(%(relid)s::pg_catalog.oid)

-- name: view_rule
SELECT r.ev_action::pg_catalog.text
FROM pg_catalog.pg_rewrite AS r
WHERE r.ev_class = %(relid)s AND r.rulename = '_RETURN'

-- name: view_columns
SELECT a.attname AS name, a.atttypid AS type_oid, a.atttypmod AS typmod, a.attcollation AS collation_oid,
       CASE WHEN a.attcollation <> t.typcollation THEN cn.nspname END AS collation_schema,
       CASE WHEN a.attcollation <> t.typcollation THEN c.collname END AS collation_name
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid = c.collnamespace
WHERE a.attrelid = %(relid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: nondeterministic_collations
SELECT COALESCE(array_agg(c.oid), '{}')
FROM pg_catalog.pg_collation AS c
WHERE NOT c.collisdeterministic
  AND (c.oid = ANY (%(oids)s)
       OR c.oid IN (SELECT a.attcollation FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = ANY (%(relids)s)))

-- name: relations
SELECT c.oid AS relid, n.nspname AS schema, c.relname AS name, c.relkind::pg_catalog.text AS relkind,
       c.relpersistence::pg_catalog.text AS persistence,
       EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid) AS has_children,
       (c.oid < 16384) AS is_system
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%(relids)s)

-- name: attributes
SELECT a.attrelid AS relid, a.attnum::pg_catalog.int4 AS number, a.attname AS name, a.atttypid AS type_oid,
       a.atttypmod AS typmod, a.attcollation AS collation_oid, cn.nspname AS collation_schema,
       co.collname AS collation_name, pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS expression,
       d.adbin::pg_catalog.text AS tree,
       -- From 18 on a NOT NULL constraint may not have been validated, and there may be NULLs.
       a.attnotnull AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_constraint AS c
           WHERE c.conrelid = a.attrelid AND c.contype = 'n' AND NOT c.convalidated AND a.attnum = ANY (c.conkey)
       ) AS not_null
FROM pg_catalog.pg_attribute AS a
LEFT JOIN pg_catalog.pg_attrdef AS d ON a.attgenerated = 'v' AND d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation AS co ON a.attgenerated = 'v' AND co.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid = co.collnamespace
WHERE a.attrelid = ANY (%(relids)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: unique_keys
SELECT i.indrelid AS relid, i.indexrelid AS index_oid, array_agg(a.attname::pg_catalog.text) AS columns
FROM pg_catalog.pg_index AS i
CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (position)
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.position]
LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[k.position]
WHERE i.indrelid = ANY (%(relids)s)
  AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indrelid, i.indexrelid, i.indisprimary, i.indnkeyatts
-- An index may tell apart what the column's own collation takes for equal, or what = of its type does; the pattern
-- classes of text and char (families 2095 and 2097) do not.
HAVING bool_and(
    a.attnotnull AND (l.collisdeterministic IS NOT FALSE OR i.indcollation[k.position] = l.oid)
    AND (o.opcdefault OR o.opcfamily IN (2095, 2097))
)
AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS c
    WHERE c.conrelid = i.indrelid AND c.contype = 'n' AND NOT c.convalidated AND c.conkey && array_agg(a.attnum)
)
ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid

-- name: has_catalog
SELECT pg_catalog.to_regclass('pgtrickle.stream_tables') IS NOT NULL

-- name: stream_tables_among
SELECT s.relid FROM pgtrickle.stream_tables AS s WHERE s.relid = ANY (%(relids)s)

-- name: functions
SELECT p.oid AS oid, n.nspname AS schema, p.proname AS name, p.prokind::pg_catalog.text AS kind,
       p.provolatile::pg_catalog.text AS volatility, p.proretset AS returns_set,
       (p.oid < 16384) AS is_builtin
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.oid = ANY (%(functions)s)
   OR p.oid IN (SELECT o.oprcode FROM pg_catalog.pg_operator AS o WHERE o.oid = ANY (%(operators)s))

-- name: types
SELECT t.oid AS oid, t.typtype::pg_catalog.text AS typtype, t.typcategory::pg_catalog.text AS category,
       t.typlen::pg_catalog.int4 AS length, t.typbasetype AS base_oid, t.typtypmod AS base_typmod,
       t.typnotnull AS not_null,
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS element_oid,
       COALESCE(r.rngsubtype, 0) AS subtype_oid,
       ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'c') AS field_oids,
       sn.nspname AS send_schema, s.proname AS send_name, on_.nspname AS output_schema, o.proname AS output_name
FROM pg_catalog.pg_type AS t
LEFT JOIN pg_catalog.pg_range AS r ON t.oid IN (r.rngtypid, r.rngmultitypid)
LEFT JOIN pg_catalog.pg_proc AS s ON s.oid = t.typsend
LEFT JOIN pg_catalog.pg_namespace AS sn ON sn.oid = s.pronamespace
JOIN pg_catalog.pg_proc AS o ON o.oid = t.typoutput
JOIN pg_catalog.pg_namespace AS on_ ON on_.oid = o.pronamespace
WHERE t.oid = ANY (%(oids)s)

-- name: types_made_of
-- Which of some types contain a value of certain others: domains, arrays, ranges and composites of them.
WITH RECURSIVE part AS (
    SELECT u.oid AS whole, u.oid FROM pg_catalog.unnest(%(oids)s::pg_catalog.oid[]) AS u (oid)
    UNION
    SELECT p.whole, i.oid
    FROM part AS p JOIN pg_catalog.pg_type AS t ON t.oid = p.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
                  WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
    ) AS i (oid)
)
SELECT COALESCE(pg_catalog.array_agg(DISTINCT p.whole), '{}')
FROM part AS p WHERE p.oid = ANY (%(naming)s::pg_catalog.oid[])

-- name: type_names
SELECT u.oid, u.typmod, pg_catalog.format_type(u.oid, u.typmod) AS name
FROM unnest(%(oids)s::pg_catalog.oid[], %(typmods)s::pg_catalog.int4[]) AS u (oid, typmod)

-- name: equality_operators
SELECT DISTINCT ON (c.opcintype) c.opcintype AS oid, n.nspname AS schema, o.oprname AS name
FROM pg_catalog.pg_opclass AS c
JOIN pg_catalog.pg_am AS m ON m.oid = c.opcmethod AND m.amname IN ('btree', 'hash')
JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = c.opcfamily AND ao.amoplefttype = c.opcintype
     AND ao.amoprighttype = c.opcintype AND ao.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
JOIN pg_catalog.pg_operator AS o ON o.oid = ao.amopopr
JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace
WHERE c.opcdefault
ORDER BY c.opcintype, m.amname

-- name: sortable_types
SELECT c.opcintype AS oid
FROM pg_catalog.pg_opclass AS c
JOIN pg_catalog.pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
WHERE c.opcdefault

-- name: hashable_types
SELECT c.opcintype AS oid
FROM pg_catalog.pg_opclass AS c
JOIN pg_catalog.pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'hash'
JOIN pg_catalog.pg_amproc AS p ON p.amprocfamily = c.opcfamily AND p.amproclefttype = c.opcintype
     AND p.amprocrighttype = c.opcintype AND p.amprocnum = 2
WHERE c.opcdefault

-- name: used_columns
-- What views read of other relations; 0 stands for the whole row.
SELECT d.refobjid::bigint AS relid, d.refobjsubid::integer AS number
FROM pg_catalog.pg_rewrite AS r
JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
WHERE r.ev_class = ANY (%(views)s::oid[] || pg_catalog.to_regclass('pg_temp.pgtrickle_probe')::oid)
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class

-- name: text_search_config
-- The configuration that a setting names, where that still exists.
SELECT c.oid::bigint
FROM pg_catalog.pg_ts_config AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.cfgnamespace
WHERE (n.nspname, c.cfgname) = (
    SELECT CASE WHEN pg_catalog.cardinality(i.parts) > 1 THEN i.parts[1]::pg_catalog.name ELSE 'pg_catalog'::pg_catalog.name END,
           i.parts[pg_catalog.cardinality(i.parts)]::pg_catalog.name
    FROM pg_catalog.parse_ident(%(name)s) AS i (parts))

-- name: used_objects
-- What types, functions, operators and collations are made of, down to what PostgreSQL itself has made.
WITH RECURSIVE used (kind, oid) AS (
    SELECT s.kind, s.oid
    FROM (SELECT 'type', pg_catalog.unnest(%(types)s::pg_catalog.oid[])
          UNION ALL SELECT 'function', pg_catalog.unnest(%(functions)s::pg_catalog.oid[])
          UNION ALL SELECT 'operator', pg_catalog.unnest(%(operators)s::pg_catalog.oid[])
          UNION ALL SELECT 'collation', pg_catalog.unnest(%(collations)s::pg_catalog.oid[])) AS s (kind, oid)
    UNION
    SELECT m.kind, m.oid
    FROM used AS u CROSS JOIN LATERAL (
        SELECT p.kind, p.oid
        FROM pg_catalog.pg_type AS t CROSS JOIN LATERAL (
            VALUES ('type', t.typelem), ('type', t.typbasetype), ('collation', t.typcollation)) AS p (kind, oid)
        WHERE u.kind = 'type' AND t.oid = u.oid
        UNION ALL
        SELECT p.kind, p.oid
        FROM pg_catalog.pg_type AS t
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        CROSS JOIN LATERAL (VALUES ('type', a.atttypid), ('collation', a.attcollation)) AS p (kind, oid)
        WHERE u.kind = 'type' AND t.oid = u.oid AND t.typtype = 'c'
        UNION ALL
        SELECT p.kind, p.oid
        FROM pg_catalog.pg_range AS r
        LEFT JOIN pg_catalog.pg_opclass AS c ON c.oid = r.rngsubopc
        LEFT JOIN pg_catalog.pg_amproc AS f ON f.amprocfamily = c.opcfamily AND c.opcfamily >= 16384
        CROSS JOIN LATERAL (VALUES ('type', r.rngsubtype), ('collation', r.rngcollation),
                                   ('function', r.rngcanonical::pg_catalog.oid), ('function', f.amproc::pg_catalog.oid)) AS p (kind, oid)
        WHERE u.kind = 'type' AND u.oid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL
        SELECT 'function', f.amproc::pg_catalog.oid
        FROM pg_catalog.pg_opclass AS c JOIN pg_catalog.pg_amproc AS f ON f.amprocfamily = c.opcfamily
        WHERE u.kind = 'type' AND u.oid >= 16384 AND c.opcintype = u.oid
        UNION ALL
        SELECT 'function', o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator AS o WHERE u.kind = 'operator' AND o.oid = u.oid
        UNION ALL
        SELECT 'function', f.amproc::pg_catalog.oid
        FROM pg_catalog.pg_amop AS o JOIN pg_catalog.pg_amproc AS f ON f.amprocfamily = o.amopfamily
        WHERE u.kind = 'operator' AND o.amopopr = u.oid AND o.amopfamily >= 16384
        UNION ALL
        -- Bodies that were parsed at once, defaults, the parts of aggregates.
        SELECT CASE d.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'function'
                                 WHEN 'pg_catalog.pg_type'::pg_catalog.regclass THEN 'type'
                                 WHEN 'pg_catalog.pg_operator'::pg_catalog.regclass THEN 'operator'
                                 WHEN 'pg_catalog.pg_collation'::pg_catalog.regclass THEN 'collation' END, d.refobjid
        FROM pg_catalog.pg_depend AS d
        WHERE u.kind = 'function' AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = u.oid
    ) AS m (kind, oid)
    WHERE m.kind IS NOT NULL AND m.oid <> 0
)
SELECT u.kind, u.oid::pg_catalog.int8 AS oid
FROM used AS u
WHERE u.oid >= 16384
   OR u.kind = 'operator' AND %(rivals)s AND EXISTS (
       SELECT FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_type AS t ON t.oid IN (o.oprleft, o.oprright)
       WHERE o.oid = u.oid AND t.typtype = 'p')
ORDER BY 1, 2
