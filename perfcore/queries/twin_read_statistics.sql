-- What ANALYZE knows of every column this role may read.
SELECT
    s.schemaname::pg_catalog.text,
    s.tablename::pg_catalog.text,
    -- The columns of an expression index go by number: their names are made up.
    CASE WHEN c.relkind IN ('i', 'I') THEN NULL ELSE s.attname::pg_catalog.text END,
    CASE WHEN c.relkind IN ('i', 'I') THEN a.attnum END,
    s.inherited,
    s.null_frac,
    s.avg_width,
    s.n_distinct,
    s.most_common_vals::pg_catalog.text,
    s.most_common_freqs::pg_catalog.text,
    s.histogram_bounds::pg_catalog.text,
    s.correlation,
    s.most_common_elems::pg_catalog.text,
    s.most_common_elem_freqs::pg_catalog.text,
    s.elem_count_histogram::pg_catalog.text,
    s.range_length_histogram::pg_catalog.text,
    s.range_empty_frac,
    s.range_bounds_histogram::pg_catalog.text
FROM pg_catalog.pg_stats AS s
JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.schemaname
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = s.tablename
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = s.attname
WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
ORDER BY 1, 2, 3, 4
