"""What the adapter reads from the catalogs, over dbt's own connection."""

from __future__ import annotations

from psycopg.sql import SQL, Composed, Literal

#: One row if the engine's catalog is there and this role may read it; asked before every other query on it.
INSTALLED = SQL("""
SELECT 1
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'pgtrickle' AND c.relname = 'stream_tables_info'
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
""")

_REGISTERED = SQL("""
SELECT n.nspname::text AS schema, c.relname::text AS name, i.schedule::text AS schedule,
       i.requested_mode::text AS requested_mode, i.mode::text AS mode, i.status::text AS status,
       i.data_timestamp::text AS data_timestamp,
       extract(epoch FROM i.data_timestamp)::double precision AS data_epoch,
       extract(epoch FROM pg_catalog.clock_timestamp())::double precision AS now_epoch
FROM pgtrickle.stream_tables_info i
JOIN pg_catalog.pg_class c ON c.oid = i.relid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.lower(n.nspname) = ANY ({})
ORDER BY n.nspname, c.relname
""")

_VIEWS = SQL("""
SELECT DISTINCT vn.nspname::text AS schema, v.relname::text AS name, pg_catalog.pg_get_viewdef(v.oid)::text AS query,
       pg_catalog.array_to_string(v.reloptions, ',')::text AS options, v.relkind::text AS kind
FROM pg_catalog.pg_class t
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.oid
                           AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.oid <> t.oid
JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace
WHERE n.nspname = {} AND t.relname = {}
ORDER BY 1, 2
""")

_REFERENCING = SQL("""
SELECT rn.nspname::text AS schema, r.relname::text AS name, k.conname::text AS constraint_name
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class t ON t.oid = k.confrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = k.conrelid AND r.oid <> t.oid
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE k.contype = 'f' AND n.nspname = {} AND t.relname = {}
ORDER BY 1, 2, 3
""")

_READING = SQL("""
SELECT DISTINCT pg_catalog.format('%I.%I', rn.nspname, r.relname) AS name
FROM pg_catalog.pg_class t
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
JOIN pgtrickle.dependencies d ON d.relid = t.oid
JOIN pgtrickle.stream_tables s ON s.id = d.stream_table_id
JOIN pg_catalog.pg_class r ON r.oid = s.relid
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE n.nspname = {} AND t.relname = {}
ORDER BY 1
""")

_COMMENTS = SQL("""
SELECT a.attname::text AS column_name, d.description::text AS comment
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE n.nspname = {} AND c.relname = {}
""")

_CONSTRAINTS = SQL("""
SELECT k.conname::text AS name, d.description::text AS mark
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_description d ON d.objoid = k.oid
                                AND d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
WHERE n.nspname = {} AND c.relname = {}
""")

_NOT_NULL = SQL("""
SELECT a.attname::text AS name,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)) AS in_key
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {} AND c.relname = {} AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
""")


def registered(schemas: list[str]) -> Composed:
    """The stream tables in schemas (any letter case) by the names they have now."""
    return _REGISTERED.format(Literal([schema.lower() for schema in schemas]))


def dependent_views(schema: str, name: str) -> Composed:
    """The views (``v``) and materialized views (``m``) that read a relation directly, with their definitions."""
    return _VIEWS.format(Literal(schema), Literal(name))


def referencing_keys(schema: str, name: str) -> Composed:
    """The foreign keys of other tables that point to a table."""
    return _REFERENCING.format(Literal(schema), Literal(name))


def reading_stream_tables(schema: str, name: str) -> Composed:
    """The stream tables that read a relation, by their quoted names."""
    return _READING.format(Literal(schema), Literal(name))


def comments(schema: str, name: str) -> Composed:
    """The comments of a relation (column NULL) and of its columns."""
    return _COMMENTS.format(Literal(schema), Literal(name))


def marked_constraints(schema: str, name: str) -> Composed:
    """The constraints of a table that have a comment."""
    return _CONSTRAINTS.format(Literal(schema), Literal(name))


def not_null_columns(schema: str, name: str) -> Composed:
    """The columns of a table that refuse NULL, and whether its primary key needs them to."""
    return _NOT_NULL.format(Literal(schema), Literal(name))
