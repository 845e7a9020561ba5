-- PostgreSQL 13 does not say when the statistics of statements were last reset.
SELECT NULL::timestamptz AS stats_reset
