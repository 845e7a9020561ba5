SELECT taken_at, epoch, snapshot
  FROM perfcore.collector_snapshots
 WHERE target_id = %(target_id)s AND view = %(view)s
