-- On the target: the right to change a table's indexes, held until the session ends.
SELECT pg_catalog.pg_try_advisory_lock(1885565542, pg_catalog.hashtext(%(table)s))
