-- Questions to PostgreSQL's own catalog about sources and about what we installed on them.

-- name: family
-- A table with all below it ('own') and all above any of these ('ancestor'). moved_by: the columns that decide in which
-- partition below a row is; empty if it may be anything.
WITH RECURSIVE own AS (
    SELECT %(relid)s::oid AS relid
    UNION
    SELECT i.inhrelid FROM own o JOIN pg_catalog.pg_inherits i ON i.inhparent = o.relid AND NOT i.inhdetachpending
), above AS (
    SELECT relid FROM own
    UNION
    SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.relid AND NOT i.inhdetachpending
)
SELECT c.oid AS relid, n.nspname AS schema_name, c.relname AS table_name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relispartition AS is_partition,
       CASE WHEN EXISTS (SELECT FROM own o WHERE o.relid = c.oid) THEN 'own' ELSE 'ancestor' END AS place,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_owned,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may_select,
       pg_catalog.has_table_privilege(c.oid, 'TRIGGER') AS may_trigger,
       pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS may_lock,
       n.nspname IN ('pg_catalog', 'information_schema') AS is_system,
       EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = c.oid) AS is_subscribed,
       c.relkind = 'r' AND c.relfilenode = c.oid AS has_first_file,
       coalesce((SELECT pg_catalog.string_agg(i.inhparent || ':' || i.xmin, ' ' ORDER BY i.inhparent)
                 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending), '') AS attached,
       -- While one is being detached statements look closer, and not afterwards.
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits i
        WHERE i.inhparent = c.oid AND NOT i.inhdetachpending) AS links,
       -- MERGE is what asks for it, which version 15 brought.
       CASE WHEN c.relkind = 'p' AND pg_catalog.current_setting('server_version_num')::integer >= 150000 THEN (
           SELECT CASE
               WHEN pg_catalog.bool_or(k.attnum = 0) OR EXISTS (
                   -- A trigger of the user's may move rows whatever the statement sets: row (1), before (2), update (16).
                   SELECT FROM pg_catalog.pg_partition_tree(c.oid) m JOIN pg_catalog.pg_trigger g ON g.tgrelid = m.relid
                   WHERE g.tgtype::integer & 19 = 19
               ) THEN '{}'::text[]
               ELSE pg_catalog.array_agg(DISTINCT t.attname::text) END
           FROM pg_catalog.pg_partition_tree(c.oid) m
           JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = m.relid
           CROSS JOIN pg_catalog.unnest(p.partattrs::smallint[]) AS k (attnum)
           LEFT JOIN pg_catalog.pg_attribute t ON t.attrelid = m.relid AND t.attnum = k.attnum
       ) END AS moved_by
FROM above a
JOIN pg_catalog.pg_class c ON c.oid = a.relid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.oid

-- name: source_columns
-- The type is the one under all domains: a change buffer holds what was in the table, without checking it again.
WITH RECURSIVE under AS (
    SELECT a.attnum, a.atttypid AS typid
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = %(relid)s::oid AND a.attnum = ANY (%(columns)s::smallint[]) AND NOT a.attisdropped
      AND a.attgenerated <> 'v'
    UNION ALL
    SELECT u.attnum, t.typbasetype FROM under u JOIN pg_catalog.pg_type t ON t.oid = u.typid WHERE t.typtype = 'd'
)
SELECT a.attnum AS number, a.attname AS name, a.atttypid AS type_oid, t.oid AS base_type_oid,
       tn.nspname AS type_schema, t.typname AS type_name, cn.nspname AS collation_schema,
       co.collname AS collation_name, a.attcollation AS collation_oid
FROM under u
JOIN pg_catalog.pg_attribute a ON a.attrelid = %(relid)s::oid AND a.attnum = u.attnum
JOIN pg_catalog.pg_type t ON t.oid = u.typid AND t.typtype <> 'd'
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
ORDER BY a.attnum

-- name: key_columns
-- The columns of a unique key without NULLs whose types pg_catalog's own "=" can hash; the primary key first.
SELECT a.attname AS name
FROM (SELECT i.indexrelid, i.indkey, i.indnkeyatts FROM pg_catalog.pg_index i
      WHERE i.indrelid = %(relid)s::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
        AND i.indexprs IS NULL
        AND NOT EXISTS (
            SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) p (position)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.position]
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE NOT a.attnotnull
               OR NOT (t.typname = 'varchar' AND t.typnamespace = 'pg_catalog'::regnamespace
                       OR EXISTS (SELECT FROM pg_catalog.pg_operator o
                                  WHERE o.oprname = '=' AND o.oprnamespace = 'pg_catalog'::regnamespace
                                    AND o.oprleft = t.oid AND o.oprright = t.oid AND o.oprcanhash)))
      ORDER BY NOT i.indisprimary, i.indnkeyatts, i.indexrelid
      LIMIT 1) k
CROSS JOIN LATERAL pg_catalog.generate_series(0, k.indnkeyatts - 1) p (position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = %(relid)s::oid AND a.attnum = k.indkey[p.position]
ORDER BY p.position

-- name: buffer_columns
SELECT a.attname AS name, a.atttypid AS type_oid, a.attcollation AS collation_oid
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass(%(buffer)s) AND a.attnum > 2 AND NOT a.attisdropped

-- name: function_bodies
SELECT p.proname AS name, p.prosrc AS body
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pgtrickle_changes' AND p.proname = ANY (%(names)s::name[])

-- name: installed_triggers
SELECT t.tgrelid AS relid, c.relname AS table_name, n.nspname AS schema_name, t.tgname AS name,
       p.proname AS function, t.tgenabled::text AS enabled, t.xmin || ':' || p.xmin AS xmin,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_owned
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname = 'pgtrickle_changes' AND p.proname = ANY (%(names)s::name[]) AND NOT t.tgisinternal

-- name: partition_constraint
SELECT pg_catalog.pg_get_partition_constraintdef(%(relid)s::oid)

-- name: foreign_partition_key
-- Whether to tell a partition's rows takes code that is not PostgreSQL's own: functions, operator classes and domains.
WITH RECURSIVE above AS (
    SELECT i.inhparent AS relid FROM pg_catalog.pg_inherits i WHERE i.inhrelid = %(relid)s::oid
    UNION
    SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.relid
)
SELECT EXISTS (
    SELECT FROM above a
    JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.relid
    WHERE EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = a.relid AND d.objsubid = 0
                    AND d.refclassid = ANY ('{pg_catalog.pg_proc,pg_catalog.pg_opclass,pg_catalog.pg_operator,
                                              pg_catalog.pg_type,pg_catalog.pg_cast}'::regclass[]))
       OR EXISTS (SELECT FROM pg_catalog.pg_attribute c JOIN pg_catalog.pg_type t ON t.oid = c.atttypid
                  WHERE c.attrelid = a.relid AND c.attnum = ANY (p.partattrs) AND t.typtype NOT IN ('b', 'e')))

-- name: buffer
SELECT pg_catalog.to_regclass(%(index)s) IS NOT NULL AS has_index, pg_catalog.pg_relation_size(c.oid) AS bytes
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(buffer)s)

-- name: too_wide
-- Sources of which more is captured than anybody reads, or with triggers on a table that belongs to them no more.
SELECT s.id
FROM pgtrickle.sources s
JOIN pg_catalog.pg_proc p ON p.pronamespace = 'pgtrickle_changes'::regnamespace AND p.proname ~ ('^[a-z]_' || s.id || '$')
JOIN pg_catalog.pg_trigger t ON t.tgfoid = p.oid
WHERE NOT EXISTS (SELECT FROM pgtrickle.source_tables k WHERE k.source_id = s.id AND k.relid = t.tgrelid)
  AND EXISTS (SELECT FROM pgtrickle.dependencies d WHERE d.source_id = s.id)
UNION
SELECT s.id
FROM pgtrickle.sources s
JOIN LATERAL (SELECT array_agg(c.attnum) AS columns, bool_or(d.rows) AS rows
              FROM pgtrickle.dependencies d LEFT JOIN LATERAL pg_catalog.unnest(d.columns) AS c (attnum) ON true
              WHERE d.source_id = s.id) n ON n.rows IS NOT NULL
WHERE s.columns <> '{}' AND NOT (n.rows AND s.columns <@ n.columns)

-- name: any_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(relids)s::oid[]))

-- name: file_size
SELECT pg_catalog.pg_relation_size(%(relid)s::oid)

-- name: foreign_views
-- Views of other people on what is ours.
SELECT DISTINCT vn.nspname || '.' || v.relname AS name
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace
JOIN pg_catalog.pg_class t ON d.refclassid = 'pg_catalog.pg_class'::regclass AND t.oid = d.refobjid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE tn.nspname = ANY (%(schemas)s::name[]) AND vn.nspname <> ALL (%(schemas)s::name[])
ORDER BY 1

-- name: stream_table_leftovers
-- What a stream table carries that an ordinary table does not: our guard and our indexes.
SELECT n.nspname AS schema_name, c.relname AS table_name,
       ARRAY (SELECT t.tgname FROM pg_catalog.pg_trigger t
              WHERE t.tgrelid = c.oid AND t.tgfoid = ANY (
                  SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pgtrickle'::regnamespace)
              ORDER BY 1) AS triggers,
       ARRAY (SELECT i.relname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
              WHERE x.indrelid = c.oid AND i.relname LIKE 'pgtrickle\_%%' ORDER BY 1) AS indexes
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(relid)s::oid

-- name: guarded
-- Tables with the guard of a stream table, registered or not.
SELECT c.oid AS relid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgfoid = pg_catalog.to_regprocedure('pgtrickle.refuse_write()')
ORDER BY 2

-- name: functions
SELECT p.proname AS name
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pgtrickle_changes' AND p.pronargs = 0 ORDER BY 1
