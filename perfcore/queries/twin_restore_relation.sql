-- Tell the twin how many pages and rows a table or an index has on the target.
SELECT pg_catalog.pg_restore_relation_stats(
    'schemaname', %(schema)s::pg_catalog.text, 'relname', %(relation)s::pg_catalog.text,
    'relpages', %(pages)s::pg_catalog.int4,
    'reltuples', %(rows)s::pg_catalog.float4,
    'relallvisible', %(visible)s::pg_catalog.int4
)
