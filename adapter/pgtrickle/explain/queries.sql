-- Questions to the system catalogs for explanations.

-- name: table_sizes
-- Those of the named tables that exist, with sizes and the planner's estimate of rows (-1: not known yet).
SELECT n.nspname AS schema, c.relname AS name, pg_catalog.pg_total_relation_size(c.oid) AS bytes,
       pg_catalog.pg_relation_size(c.oid) AS main_bytes, c.reltuples::float8 AS estimate,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS wanted (schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name

-- name: source_indexes
-- The size of sources with their partitions or children, whether they can have indexes, and the first columns of the
-- indexes that any look-up can use.
SELECT c.oid::bigint AS relid,
       (SELECT coalesce(sum(pg_catalog.pg_table_size(t.oid)), 0)::bigint
        FROM (WITH RECURSIVE family AS (
                  SELECT c.oid UNION ALL
                  SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family ON i.inhparent = family.oid)
              SELECT DISTINCT oid FROM family) t) AS bytes,
       c.relkind IN ('r', 'p') AS indexable,
       ARRAY(SELECT DISTINCT a.attname::text
             FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
             JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname IN ('btree', 'hash')
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
             ORDER BY 1) AS leading
FROM pg_catalog.pg_class c
WHERE c.oid = ANY (%(relids)s::oid[])
