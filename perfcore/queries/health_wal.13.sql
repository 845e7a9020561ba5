-- PostgreSQL 13 does not count the write-ahead log.
SELECT NULL::pg_catalog.float8 AS wal_bytes, pg_catalog.now() AS since
