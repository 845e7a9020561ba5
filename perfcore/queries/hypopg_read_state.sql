-- Where the extension HypoPG is installed, and whether it can hide existing indexes (1.4).
SELECT n.nspname::pg_catalog.text,
    EXISTS (SELECT FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = n.oid AND p.proname = 'hypopg_hide_index')
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'hypopg'
