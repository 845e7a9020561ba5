-- The target's views; asking for their text locks what they read, so it is asked apart.
SELECT 9, pg_catalog.format('%%I.%%I', n.nspname, c.relname),
    pg_catalog.format('CREATE VIEW %%I.%%I AS %%s', n.nspname, c.relname,
        pg_catalog.pg_get_viewdef(c.oid))
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
    AND c.relpersistence <> 't'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
            AND d.deptype = 'e')
ORDER BY c.oid
