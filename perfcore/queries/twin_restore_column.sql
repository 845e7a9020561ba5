-- Tell the twin what ANALYZE knows of a column on the target.
SELECT pg_catalog.pg_restore_attribute_stats(
    'schemaname', %(schema)s::pg_catalog.text, 'relname', %(relation)s::pg_catalog.text,
    'attname', %(column)s::pg_catalog.text, 'attnum', %(number)s::pg_catalog.int2,
    'inherited', %(inherited)s::pg_catalog.bool,
    'null_frac', %(null_fraction)s::pg_catalog.float4,
    'avg_width', %(width)s::pg_catalog.int4,
    'n_distinct', %(distinct)s::pg_catalog.float4,
    'most_common_vals', %(common_values)s::pg_catalog.text,
    'most_common_freqs', %(common_freqs)s::pg_catalog.float4[],
    'histogram_bounds', %(bounds)s::pg_catalog.text,
    'correlation', %(correlation)s::pg_catalog.float4,
    'most_common_elems', %(elements)s::pg_catalog.text,
    'most_common_elem_freqs', %(element_freqs)s::pg_catalog.float4[],
    'elem_count_histogram', %(element_counts)s::pg_catalog.float4[],
    'range_length_histogram', %(range_lengths)s::pg_catalog.text,
    'range_empty_frac', %(range_empty)s::pg_catalog.float4,
    'range_bounds_histogram', %(range_bounds)s::pg_catalog.text
)
