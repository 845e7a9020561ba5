-- The indexes of the given tables, key by key. An operator class is named only where it is not
-- the default of its type, a collation only where it is not the column's. One that is checked
-- at the end of a transaction is not unique before; one that a foreign key references is a
-- constraint's too.
SELECT
    i.indrelid,
    c.oid,
    n.nspname::pg_catalog.text,
    t.relname::pg_catalog.text,
    c.relname::pg_catalog.text,
    pg_catalog.pg_get_indexdef(c.oid),
    m.amname::pg_catalog.text,
    ARRAY(
        SELECT CASE WHEN a.attnum IS NULL
            THEN pg_catalog.concat(pg_catalog.pg_get_indexdef(c.oid, k + 1, true), CASE
                 WHEN pg_catalog.strpos(pg_catalog.pg_get_indexdef(c.oid), ' COLLATE ') > 0
                 THEN ordering.words END)
            WHEN i.indcollation[k] <> a.attcollation
            THEN pg_catalog.concat(pg_catalog.quote_ident(a.attname), ordering.words)
            ELSE a.attname::pg_catalog.text END
        FROM pg_catalog.generate_series(0, i.indnatts - 1) AS k
        LEFT JOIN pg_catalog.pg_attribute AS a
            ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND a.attnum <> 0
        LEFT JOIN LATERAL (SELECT ' COLLATE ' || pg_catalog.quote_ident(o.collname) AS words
                           FROM pg_catalog.pg_collation AS o
                           WHERE o.oid = i.indcollation[k] AND o.collname <> 'default'
            ) AS ordering ON true
        ORDER BY k
    ),
    i.indnkeyatts::pg_catalog.int4,
    coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid, true), ''),
    i.indisunique AND i.indimmediate,
    i.indisprimary,
    EXISTS (SELECT FROM pg_catalog.pg_constraint AS q
            WHERE q.conindid = c.oid),
    i.indisreplident,
    i.indisvalid,
    coalesce(pg_catalog.pg_relation_size(c.oid), 0),
    coalesce(pg_catalog.pg_stat_get_numscans(c.oid), 0),
    ARRAY(
        SELECT (i.indoption[k] & 1) = 1
        FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k ORDER BY k
    ),
    ARRAY(
        SELECT (i.indoption[k] & 2) = 2
        FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k ORDER BY k
    ),
    ARRAY(
        SELECT CASE WHEN o.opcdefault THEN '' ELSE o.opcname::pg_catalog.text END
        FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k
        JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[k]
        ORDER BY k
    ),
    coalesce((SELECT pg_catalog.concat(q.nspname, '.', p.relname)
              FROM pg_catalog.pg_inherits AS h
              JOIN pg_catalog.pg_class AS p ON p.oid = h.inhparent
              JOIN pg_catalog.pg_namespace AS q ON q.oid = p.relnamespace
              WHERE h.inhrelid = c.oid), '')
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
WHERE i.indrelid = ANY(%(tables)s::pg_catalog.oid[])
ORDER BY i.indrelid, c.relname
