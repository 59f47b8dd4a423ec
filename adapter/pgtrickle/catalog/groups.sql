-- Statements of the refresh transaction, which reads and writes several of the catalog's tables in one go.

-- name: touch_frontiers
-- Waits for the refreshes of these stream tables that are under way, and makes those that are about to begin start again.
UPDATE pgtrickle.frontiers SET refresh_no = refresh_no WHERE stream_table_id = ANY (%(ids)s)

-- name: fail_member
UPDATE pgtrickle.stream_tables
SET consecutive_errors = consecutive_errors + 1, last_error = %(error)s,
    retry_at = pg_catalog.now() + %(delay)s::interval,
    status = coalesce(%(status)s, status), status_reason = coalesce(%(reason)s, status_reason)
WHERE id = %(id)s
