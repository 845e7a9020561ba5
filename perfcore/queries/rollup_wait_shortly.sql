-- For this transaction: how long to wait for a lock.
SELECT set_config('lock_timeout', %(lock_timeout)s, true)
