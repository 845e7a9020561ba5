-- Keep this reading of the target's transaction ids.
INSERT INTO perfcore.xid_readings (target_id, read_at, next_xid)
VALUES (%(target_id)s, %(read_at)s, %(next_xid)s)
ON CONFLICT DO NOTHING
