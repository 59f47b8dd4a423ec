-- What faults, schema changes and dead runners need from the catalog.
SELECT 'the sections of this migration follow' WHERE false;
