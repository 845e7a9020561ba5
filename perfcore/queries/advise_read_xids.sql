-- The oldest reading of the target's transaction ids in the last day.
SELECT read_at, next_xid
  FROM perfcore.xid_readings
 WHERE target_id = %(target_id)s AND read_at >= %(read_at)s - interval '1 day'
 ORDER BY read_at
 LIMIT 1
