-- What ANALYZE knows of ranges, from where only a superuser may read it: pg_stats shows it from 17 on.
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, a.attname::pg_catalog.text,
    s.stainherit, x.lengths, x.empty, x.bounds
FROM pg_catalog.pg_statistic AS s
JOIN pg_catalog.pg_class AS c ON c.oid = s.starelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = s.starelid AND a.attnum = s.staattnum,
LATERAL (
    SELECT pg_catalog.max(k.vals) FILTER (WHERE k.kind = 6) AS lengths,
        pg_catalog.max(k.numbers[1]) FILTER (WHERE k.kind = 6) AS empty,
        pg_catalog.max(k.vals) FILTER (WHERE k.kind = 7) AS bounds
    FROM (VALUES
        (s.stakind1, s.stanumbers1, s.stavalues1::pg_catalog.text),
        (s.stakind2, s.stanumbers2, s.stavalues2::pg_catalog.text),
        (s.stakind3, s.stanumbers3, s.stavalues3::pg_catalog.text),
        (s.stakind4, s.stanumbers4, s.stavalues4::pg_catalog.text),
        (s.stakind5, s.stanumbers5, s.stavalues5::pg_catalog.text)
    ) AS k(kind, numbers, vals)
) AS x
WHERE x.lengths IS NOT NULL AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
