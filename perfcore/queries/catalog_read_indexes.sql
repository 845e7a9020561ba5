-- The indexes of the given tables, key by key. An operator class is named only where it is not
-- the default of its type.
SELECT
    i.indrelid,
    c.oid,
    n.nspname::pg_catalog.text,
    t.relname::pg_catalog.text,
    c.relname::pg_catalog.text,
    pg_catalog.pg_get_indexdef(c.oid),
    m.amname::pg_catalog.text,
    ARRAY(
        SELECT CASE WHEN i.indkey[k] = 0 THEN pg_catalog.pg_get_indexdef(c.oid, k + 1, true)
            ELSE (SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
                  WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k]) END
        FROM pg_catalog.generate_series(0, i.indnatts - 1) AS k ORDER BY k
    ),
    i.indnkeyatts::pg_catalog.int4,
    coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid, true), ''),
    i.indisunique,
    i.indisprimary,
    EXISTS (SELECT FROM pg_catalog.pg_constraint AS q
            WHERE q.conindid = c.oid AND q.contype IN ('p', 'u', 'x')),
    i.indisreplident,
    i.indisvalid,
    coalesce(pg_catalog.pg_relation_size(c.oid), 0),
    coalesce(pg_catalog.pg_stat_get_numscans(c.oid), 0),
    ARRAY(
        SELECT (i.indoption[k] & 1) = 1
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
