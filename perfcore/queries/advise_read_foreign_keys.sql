-- The columns that reference other tables: without an index on them, deletes there scan here.
SELECT n.nspname::pg_catalog.text || '.' || c.relname::pg_catalog.text,
    ARRAY(
        SELECT a.attname::pg_catalog.text
        FROM pg_catalog.unnest(q.conkey) AS k (attnum)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = q.conrelid AND a.attnum = k.attnum
        ORDER BY a.attname
    )
FROM pg_catalog.pg_constraint AS q
JOIN pg_catalog.pg_class AS c ON c.oid = q.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE q.contype = 'f'
ORDER BY 1, 2
