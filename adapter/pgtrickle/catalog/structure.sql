-- What the catalog is made of, as this server tells it in every version.

-- name: tables
SELECT c.relname::text AS table_name, p.part, p.name, p.definition
FROM pg_catalog.pg_class c
LEFT JOIN LATERAL (
    SELECT 'columns' AS part, a.attname::text AS name,
           concat_ws(' ', pg_catalog.format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                     CASE WHEN a.attidentity <> '' THEN 'IDENTITY' END) AS definition
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraints', k.conname::text, pg_catalog.pg_get_constraintdef(k.oid)
    FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f', 'c')
    UNION ALL
    SELECT 'indexes', x.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid)
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))
    ) p ON true
WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle') AND c.relkind = 'r'

-- name: code
SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END || ' pgtrickle.' || p.proname AS name,
       p.prosrc AS body, coalesce(p.proconfig, '{}') AS settings, p.prosecdef AS definer
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle')
UNION ALL
SELECT 'VIEW pgtrickle.' || c.relname, NULL, '{}', false
FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgtrickle') AND c.relkind = 'v'
