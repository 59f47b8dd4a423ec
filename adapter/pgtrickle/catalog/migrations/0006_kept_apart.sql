-- A dead runner fills no disk, whatever the isolation level (space): a transaction with an old snapshot may trust what it shows
-- of the overflows only if it is of the epoch that its trigger function is of. When capture begins again, functions are
-- replaced while writers are locked out. What earlier functions have written is of no epoch that is trusted.
ALTER TABLE pgtrickle.sources ADD COLUMN epoch bigint NOT NULL DEFAULT 1;
ALTER TABLE pgtrickle.overflows ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

-- Of sources that are gone.
DELETE FROM pgtrickle.overflows o WHERE NOT EXISTS (SELECT FROM pgtrickle.sources s WHERE s.id = o.source_id);
