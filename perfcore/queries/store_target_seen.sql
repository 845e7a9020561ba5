-- The target answered; the error is what this reading could not do, or empty.
UPDATE perfcore.targets
   SET server_version = %(server_version)s,
       database = %(database)s,
       system_identifier = %(system_identifier)s,
       last_seen_at = now(),
       is_standby = %(is_standby)s,
       last_error = %(last_error)s
 WHERE target_id = %(target_id)s
