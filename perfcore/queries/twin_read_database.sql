-- Whether text sorts by byte (then a plain index serves LIKE 'x%%'), and the collation's name.
SELECT
    pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') = 'b'
        OR (coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'
            AND d.datcollate IN ('C', 'POSIX')),
    d.datcollate::pg_catalog.text,
    current_user::pg_catalog.text
FROM pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database()
