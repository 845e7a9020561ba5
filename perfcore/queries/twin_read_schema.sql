-- The statements that make the target's schema anew, without rows and defaults, which decide no
-- plan. Extensions' own objects come with the extensions. What is `rowless` also gets what rows
-- could not be copied into as they are: virtual columns, checks (they exclude children), collations.
-- `relation` is the table whose plans are others where the statement fails.
WITH RECURSIVE space AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
),
member AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d WHERE d.deptype = 'e'
),
relation AS (
    SELECT c.*, s.nspname FROM pg_catalog.pg_class AS c JOIN space AS s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND m.objid = c.oid)
),
bytewise AS (
    SELECT o.oid FROM pg_catalog.pg_collation AS o
    WHERE o.collprovider = 'b' OR (o.collprovider = 'c' AND o.collcollate IN ('C', 'POSIX'))
),
depth AS (
    SELECT r.oid, 0 AS level FROM relation AS r WHERE NOT r.relispartition
    UNION ALL
    SELECT h.inhrelid, d.level + 1
    FROM depth AS d
    JOIN pg_catalog.pg_inherits AS h ON h.inhparent = d.oid
    JOIN relation AS r ON r.oid = h.inhrelid AND r.relispartition
),
made AS MATERIALIZED (
    SELECT 0 AS step, 0 AS level, s.nspname::pg_catalog.text AS what,
        pg_catalog.format('CREATE SCHEMA IF NOT EXISTS %%I', s.nspname) AS ddl, '' AS relation
    FROM space AS s
    UNION ALL
    SELECT 1, 0, e.extname,
        pg_catalog.format('CREATE EXTENSION IF NOT EXISTS %%I SCHEMA %%I', e.extname, n.nspname),
        ''
    FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname NOT IN ('plpgsql', 'hypopg', 'pg_stat_statements', 'pg_buffercache')
    UNION ALL
    -- How text sorts does not matter where there is none, only that it is not by byte.
    SELECT 1, 0, pg_catalog.format('collation %%I.%%I', n.nspname, o.collname),
        pg_catalog.format(
            'CREATE COLLATION IF NOT EXISTS %%I.%%I (PROVIDER = libc, LOCALE = ''C.UTF-8'')',
            n.nspname, o.collname),
        ''
    FROM pg_catalog.pg_collation AS o
    JOIN pg_catalog.pg_namespace AS n ON n.oid = o.collnamespace
    WHERE %(rowless)s AND o.oid NOT IN (SELECT b.oid FROM bytewise AS b) AND o.collprovider <> 'd'
        AND (n.oid IN (SELECT s.oid FROM space AS s)
            OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS a JOIN relation AS r ON r.oid = a.attrelid
                       WHERE a.attcollation = o.oid)
            OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.refobjid = o.oid
                       AND d.refclassid = 'pg_catalog.pg_collation'::pg_catalog.regclass))
    UNION ALL
    SELECT 2, 0, pg_catalog.format('%%I.%%I', s.nspname, t.typname),
        CASE t.typtype
            WHEN 'e' THEN pg_catalog.format('CREATE TYPE %%I.%%I AS ENUM (%%s)', s.nspname, t.typname,
                (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', '
                        ORDER BY e.enumsortorder)
                 FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid))
            WHEN 'd' THEN pg_catalog.format('CREATE DOMAIN %%I.%%I AS %%s%%s', s.nspname, t.typname,
                pg_catalog.format_type(t.typbasetype, t.typtypmod),
                CASE WHEN t.typcollation IN (SELECT b.oid FROM bytewise AS b)
                        THEN ' COLLATE pg_catalog."C"'
                    WHEN %(rowless)s THEN (
                        SELECT pg_catalog.format(' COLLATE %%I.%%I', n.nspname, o.collname)
                        FROM pg_catalog.pg_collation AS o
                        JOIN pg_catalog.pg_namespace AS n ON n.oid = o.collnamespace
                        WHERE o.oid = t.typcollation AND o.collprovider <> 'd') END)
            WHEN 'c' THEN pg_catalog.format('CREATE TYPE %%I.%%I AS (%%s)', s.nspname, t.typname,
                (SELECT pg_catalog.string_agg(pg_catalog.format('%%I %%s', a.attname,
                        pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
                 FROM pg_catalog.pg_attribute AS a
                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
            ELSE (SELECT pg_catalog.format('CREATE TYPE %%I.%%I AS RANGE (SUBTYPE = %%s%%s)', s.nspname,
                        t.typname, pg_catalog.format_type(r.rngsubtype, NULL),
                        (SELECT pg_catalog.format(', MULTIRANGE_TYPE_NAME = %%I.%%I', s.nspname,
                                m.typname)
                         FROM pg_catalog.pg_type AS m WHERE m.oid =
                            (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid))
                  FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid)
        END,
        ''
    FROM pg_catalog.pg_type AS t
    JOIN space AS s ON s.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid
    WHERE (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))
        AND NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                        AND m.objid = t.oid)
    UNION ALL
    SELECT 3, 0, p.oid::pg_catalog.regprocedure::pg_catalog.text,
        CASE WHEN p.prokind IN ('f', 'p', 'w') THEN pg_catalog.pg_get_functiondef(p.oid) END,
        ''
    FROM pg_catalog.pg_proc AS p
    JOIN space AS s ON s.oid = p.pronamespace
    JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    WHERE p.prokind IN ('f', 'p', 'w') AND l.lanname IN ('sql', 'plpgsql')
        AND NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                        AND m.objid = p.oid)
    UNION ALL
    SELECT 4, 0, pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        pg_catalog.format('CREATE TABLE %%I.%%I (%%s)%%s', r.nspname, r.relname, (
            SELECT pg_catalog.string_agg(pg_catalog.format('%%I %%s%%s%%s%%s', a.attname,
                    pg_catalog.format_type(a.atttypid, a.atttypmod),
                    CASE WHEN o.oid IN (SELECT b.oid FROM bytewise AS b)
                            THEN ' COLLATE pg_catalog."C"'
                        WHEN %(rowless)s AND o.collprovider <> 'd'
                            THEN pg_catalog.format(' COLLATE %%I.%%I', n.nspname, o.collname)
                        ELSE '' END,
                    CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                    CASE WHEN %(rowless)s AND a.attgenerated = 'v'
                        THEN pg_catalog.format(' GENERATED ALWAYS AS (%%s) VIRTUAL',
                            pg_catalog.pg_get_expr(g.adbin, g.adrelid)) ELSE '' END),
                ', ' ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute AS a
            LEFT JOIN pg_catalog.pg_collation AS o ON o.oid = a.attcollation
            LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = o.collnamespace
            LEFT JOIN pg_catalog.pg_attrdef AS g ON g.adrelid = a.attrelid AND g.adnum = a.attnum
            WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        ), CASE WHEN r.relkind = 'p' THEN ' PARTITION BY ' || pg_catalog.pg_get_partkeydef(r.oid)
            ELSE (SELECT pg_catalog.format(' WITH (%%s)', x.entry)
                  FROM pg_catalog.unnest(r.reloptions) AS x(entry)
                  WHERE x.entry LIKE 'parallel\_workers=%%') END),
        ''
    FROM relation AS r
    UNION ALL
    -- The partitions' own indexes are made before their parents', which then take them over,
    -- from the deepest level up.
    SELECT CASE WHEN r.relkind = 'p' THEN 7 ELSE 5 END,
        coalesce((SELECT d.level FROM depth AS d WHERE d.oid = r.oid), 0),
        pg_catalog.format('%%I.%%I', r.nspname, k.conname),
        pg_catalog.format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', r.nspname, r.relname,
            k.conname, pg_catalog.pg_get_constraintdef(k.oid)),
        CASE WHEN k.contype = 'c' THEN '' ELSE pg_catalog.concat(r.nspname, '.', r.relname) END
    FROM pg_catalog.pg_constraint AS k
    JOIN relation AS r ON r.oid = k.conrelid
    WHERE (k.contype IN ('p', 'u', 'x') OR (k.contype = 'c' AND k.convalidated AND %(rowless)s))
        AND r.relkind <> 'm'
    UNION ALL
    SELECT CASE WHEN r.relkind = 'p' THEN 7 ELSE 5 END,
        coalesce((SELECT d.level FROM depth AS d WHERE d.oid = r.oid), 0),
        pg_catalog.format('%%I.%%I', r.nspname, c.relname),
        pg_catalog.replace(pg_catalog.pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON '),
        pg_catalog.concat(r.nspname, '.', r.relname)
    FROM pg_catalog.pg_index AS i
    JOIN relation AS r ON r.oid = i.indrelid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indisvalid AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
        WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT 6, 0, pg_catalog.format('%%I.%%I', r.nspname, r.relname),
        CASE WHEN r.relispartition
            THEN pg_catalog.format('ALTER TABLE %%I.%%I ATTACH PARTITION %%I.%%I %%s', q.nspname,
                q.relname, r.nspname, r.relname, pg_catalog.pg_get_expr(r.relpartbound, r.oid))
            ELSE pg_catalog.format('ALTER TABLE %%I.%%I INHERIT %%I.%%I', r.nspname, r.relname,
                q.nspname, q.relname) END,
        pg_catalog.concat(r.nspname, '.', r.relname)
    FROM pg_catalog.pg_inherits AS h
    JOIN relation AS r ON r.oid = h.inhrelid
    JOIN relation AS q ON q.oid = h.inhparent
    UNION ALL
    -- The planner's join estimates use foreign keys; there are no rows to check.
    SELECT 8, 0, pg_catalog.format('%%I.%%I', r.nspname, k.conname),
        pg_catalog.format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', r.nspname, r.relname,
            k.conname, pg_catalog.pg_get_constraintdef(k.oid)), ''
    FROM pg_catalog.pg_constraint AS k
    JOIN relation AS r ON r.oid = k.conrelid
    WHERE k.contype = 'f' AND k.conparentid = 0
    UNION ALL
    SELECT 8, 0, pg_catalog.format('%%I.%%I', s.nspname, x.stxname),
        pg_catalog.pg_get_statisticsobjdef(x.oid), ''
    FROM pg_catalog.pg_statistic_ext AS x JOIN space AS s ON s.oid = x.stxnamespace
    WHERE NOT %(rowless)s
)
SELECT step, what, ddl, relation FROM made WHERE ddl IS NOT NULL ORDER BY step, level DESC, what
