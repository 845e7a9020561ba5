-- One collector per target: true for the one that holds, or now gets, the lock of this session.
SELECT pg_try_advisory_lock(%(class)s, %(target)s)
