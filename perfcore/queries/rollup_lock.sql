-- One roller at a time; the lock is the session's.
SELECT pg_try_advisory_lock(%(key)s)
