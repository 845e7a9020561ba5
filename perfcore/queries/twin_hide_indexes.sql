-- Make the planner see exactly these indexes of the twin, of those it may be asked about.
UPDATE pg_catalog.pg_index AS i SET indisvalid = NOT i.indisvalid
FROM pg_catalog.pg_class AS c, pg_catalog.pg_namespace AS n
WHERE c.oid = i.indexrelid AND n.oid = c.relnamespace
    AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
    AND i.indisvalid <> CASE
        WHEN c.relname LIKE 'perfcore\_whatif\_%%' THEN c.relname = ANY(%(shown)s::pg_catalog.text[])
        ELSE c.relname <> ALL(%(hidden)s::pg_catalog.text[])
            AND pg_catalog.concat(n.nspname, '.', c.relname) <> ALL(%(hidden)s::pg_catalog.text[])
    END
