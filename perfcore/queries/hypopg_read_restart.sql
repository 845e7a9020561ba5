-- Whether the server ended all sessions since a time and began anew, as after a crash of one. A
-- role that may not see the checkpointer gets no answer.
SELECT a.backend_start > %(since)s::pg_catalog.timestamptz
FROM pg_catalog.pg_stat_activity AS a
WHERE a.backend_type = 'checkpointer'
