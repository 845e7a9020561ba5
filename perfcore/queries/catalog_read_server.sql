-- The server a catalogue is read from, and since when its statistics count.
SELECT
    pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    pg_catalog.current_database()::pg_catalog.text,
    pg_catalog.now(),
    coalesce(
        (SELECT d.stats_reset FROM pg_catalog.pg_stat_database AS d
         WHERE d.datname = pg_catalog.current_database()),
        pg_catalog.pg_postmaster_start_time()
    ),
    ARRAY(SELECT e.extname::pg_catalog.text FROM pg_catalog.pg_extension AS e ORDER BY 1)
