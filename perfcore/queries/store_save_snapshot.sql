-- Takes the place of the reading that was expected there; no row when another has taken it.
INSERT INTO perfcore.collector_snapshots (target_id, view, taken_at, epoch, snapshot)
VALUES (%(target_id)s, %(view)s, %(taken_at)s, %(epoch)s, %(snapshot)s)
ON CONFLICT (target_id, view) DO UPDATE
   SET taken_at = excluded.taken_at, epoch = excluded.epoch, snapshot = excluded.snapshot
 WHERE perfcore.collector_snapshots.taken_at = %(expected)s::timestamptz
RETURNING view
