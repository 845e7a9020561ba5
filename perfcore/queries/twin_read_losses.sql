-- What of the target the twin does not take over, or a role cannot see, and what follows from it.
WITH space AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
),
member AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d WHERE d.deptype = 'e'
),
relation AS (
    SELECT c.*, s.nspname FROM pg_catalog.pg_class AS c JOIN space AS s ON s.oid = c.relnamespace
),
lost AS (
    SELECT pg_catalog.format('%%I.%%I', r.nspname, r.relname) AS what,
        'a foreign table, whose rows and costs are another server''s' AS words
    FROM relation AS r WHERE r.relkind = 'f'
    UNION ALL
    SELECT c.relname::pg_catalog.text, 'a temporary table of one session'
    FROM pg_catalog.pg_class AS c WHERE c.relpersistence = 't' AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        pg_catalog.format('its row level security is left out, as it does not apply to the role %%I; '
            'the plans of roles to which it applies have its conditions as well', current_user)
    FROM relation AS r
    WHERE r.relrowsecurity AND NOT pg_catalog.row_security_active(r.oid)
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        pg_catalog.format('kept by the access method %%I, whose costs are not those of a heap', m.amname)
    FROM relation AS r JOIN pg_catalog.pg_am AS m ON m.oid = r.relam
    WHERE r.relkind IN ('r', 'm', 'p') AND m.amname <> 'heap'
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        pg_catalog.format('in the tablespace %%I, which has costs of its own', t.spcname)
    FROM relation AS r JOIN pg_catalog.pg_tablespace AS t ON t.oid = r.reltablespace
    WHERE r.relkind IN ('r', 'm', 'i') AND t.spcoptions IS NOT NULL
    UNION ALL
    -- Only who owns an index, or may read everything, sees the statistics of its expressions.
    SELECT pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        pg_catalog.format('the statistics of its expressions may not be read: '
            'GRANT pg_read_all_data TO %%I', current_user)
    FROM pg_catalog.pg_index AS i JOIN relation AS r ON r.oid = i.indexrelid
    WHERE i.indexprs IS NOT NULL AND NOT pg_catalog.has_table_privilege(r.oid, 'SELECT')
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        pg_catalog.format('what ANALYZE knows of the ranges in its column %%I may be read by any role '
            'from version 17 on: searches in them are priced by rules of thumb', a.attname)
    FROM relation AS r
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid AND t.typtype IN ('r', 'm')
    WHERE r.relkind IN ('r', 'p', 'm')
        AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 170000
        AND NOT pg_catalog.has_table_privilege('pg_catalog.pg_statistic', 'SELECT')
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', s.nspname, p.proname),
        CASE WHEN p.prokind = 'a' THEN 'an aggregate of its own'
            ELSE pg_catalog.format('a function in the language %%I', l.lanname) END
    FROM pg_catalog.pg_proc AS p
    JOIN space AS s ON s.oid = p.pronamespace
    JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    WHERE (p.prokind = 'a' OR l.lanname NOT IN ('sql', 'plpgsql'))
        AND NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                        AND m.objid = p.oid)
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', s.nspname, o.opcname), 'an operator class of its own'
    FROM pg_catalog.pg_opclass AS o JOIN space AS s ON s.oid = o.opcnamespace
    WHERE NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_opclass'::pg_catalog.regclass
                      AND m.objid = o.oid)
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', s.nspname, o.oprname), 'an operator of its own'
    FROM pg_catalog.pg_operator AS o JOIN space AS s ON s.oid = o.oprnamespace
    WHERE NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass
                      AND m.objid = o.oid)
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', s.nspname, t.typname), 'a base type of its own'
    FROM pg_catalog.pg_type AS t JOIN space AS s ON s.oid = t.typnamespace
    WHERE t.typtype = 'b' AND t.typcategory <> 'A'
        AND NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                        AND m.objid = t.oid)
    UNION ALL
    SELECT pg_catalog.format('%%I.%%I', s.nspname, x.stxname),
        'extended statistics, which PostgreSQL 18 cannot take over: the twin takes their columns '
        'for independent of each other'
    FROM pg_catalog.pg_statistic_ext AS x JOIN space AS s ON s.oid = x.stxnamespace
)
SELECT what, words FROM lost ORDER BY 1, 2
