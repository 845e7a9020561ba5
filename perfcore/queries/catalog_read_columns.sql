-- The columns of the given tables in attribute order, with their statistics where the role may
-- read them (SELECT on the table); a partitioned table's are those over all its partitions.
SELECT
    a.attrelid,
    a.attname::pg_catalog.text,
    pg_catalog.format_type(a.atttypid, a.atttypmod),
    a.attnotnull,
    s.avg_width,
    s.null_frac::pg_catalog.float8,
    s.n_distinct::pg_catalog.float8,
    s.correlation::pg_catalog.float8,
    s.most_common_vals::pg_catalog.text::pg_catalog.text[],
    s.most_common_freqs::pg_catalog.float8[],
    s.histogram_bounds::pg_catalog.text::pg_catalog.text[],
    -- Its operator class says whether equal values are equal in every byte (support function 4).
    EXISTS (
        SELECT FROM pg_catalog.pg_type AS t
        JOIN pg_catalog.pg_type AS b
            ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
        JOIN pg_catalog.pg_opclass AS o
            ON o.opcdefault AND o.opcintype = CASE
                WHEN b.typtype = 'e' THEN 'pg_catalog.anyenum'::pg_catalog.regtype
                WHEN b.oid = 'pg_catalog.varchar'::pg_catalog.regtype
                    THEN 'pg_catalog.text'::pg_catalog.regtype
                WHEN b.oid = 'pg_catalog.cidr'::pg_catalog.regtype
                    THEN 'pg_catalog.inet'::pg_catalog.regtype
                ELSE b.oid END
        JOIN pg_catalog.pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'btree'
        JOIN pg_catalog.pg_amproc AS p
            ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype
            AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4
        WHERE t.oid = a.atttypid
            -- Nor are they under a collation that holds different letters for equal.
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_collation AS k
                            WHERE k.oid = a.attcollation AND NOT k.collisdeterministic)
    ),
    -- A column that references another table has no more values than that has rows.
    (
        SELECT min(r.reltuples)::pg_catalog.float8
        FROM pg_catalog.pg_constraint AS q
        JOIN pg_catalog.pg_class AS r ON r.oid = q.confrelid
        WHERE q.contype = 'f' AND q.conrelid = a.attrelid AND q.conkey = ARRAY[a.attnum]
            AND r.reltuples > 0
    )
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stats AS s
    ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
    AND s.inherited = (c.relkind = 'p')
WHERE a.attrelid = ANY(%(tables)s::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
