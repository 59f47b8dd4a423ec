-- Questions to the system catalogs about stream tables and what depends on them.

-- name: resolve_name
-- A name as PostgreSQL reads it: where it would be created, and what it is now.
WITH parsed AS (SELECT pg_catalog.parse_ident(%(name)s) AS parts),
     target AS (
    SELECT parts, CASE WHEN pg_catalog.cardinality(parts) = 2 THEN parts[1] END AS given,
           parts[pg_catalog.cardinality(parts)] AS table_name
    FROM parsed),
     found AS (
    SELECT t.*, CASE WHEN pg_catalog.cardinality(parts) <= 2
                     THEN pg_catalog.to_regclass(pg_catalog.concat_ws('.', pg_catalog.quote_ident(given),
                                                                      pg_catalog.quote_ident(table_name))) END::oid AS oid
    FROM target t)
SELECT pg_catalog.cardinality(f.parts) AS parts, coalesce(n.nspname, f.given, pg_catalog.current_schema()) AS schema_name,
       f.table_name, c.oid::bigint AS relid, c.relkind::text AS relkind,
       EXISTS (SELECT FROM pg_catalog.pg_namespace s
               WHERE s.nspname = coalesce(n.nspname, f.given, pg_catalog.current_schema())) AS schema_exists,
       pg_catalog.format('%%I.%%I', coalesce(n.nspname, f.given, pg_catalog.current_schema()), f.table_name) AS quoted
FROM found f
LEFT JOIN pg_catalog.pg_class c ON c.oid = f.oid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace

-- name: stream_table_oid
-- to_regclass takes a number for an OID.
SELECT st.relid::bigint AS relid FROM pgtrickle.stream_tables st
WHERE st.relid = pg_catalog.to_regclass(%(name)s::text) AND %(name)s::text !~ '^[0-9]'

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

-- name: enum_types
-- Enums (also in arrays) among the columns of some relations: renamed labels change what a cast to text says.
SELECT DISTINCT e.oid::bigint AS oid
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type e ON e.oid IN (t.oid, t.typelem, t.typbasetype) AND e.typtype = 'e'
WHERE a.attrelid = ANY (%(relids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1

-- name: describe_type
SELECT n.nspname AS schema_name, t.typname AS object_name
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = %(oid)s

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
