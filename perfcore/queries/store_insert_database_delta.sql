INSERT INTO perfcore.database_deltas
       (target_id, interval_start, interval_end, blks_hit, blks_read, xact_commit, xact_rollback,
        temp_bytes, deadlocks, backends, database_bytes)
VALUES (%(target_id)s, %(start)s, %(end)s, %(blks_hit)s, %(blks_read)s, %(xact_commit)s,
        %(xact_rollback)s, %(temp_bytes)s, %(deadlocks)s, %(backends)s, %(database_bytes)s)
