-- A day of readings is enough for a rate.
DELETE FROM perfcore.xid_readings
 WHERE target_id = %(target_id)s AND read_at < %(read_at)s - interval '2 days'
