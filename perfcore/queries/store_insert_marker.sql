INSERT INTO perfcore.markers (kind, label, target_id, details)
VALUES (%(kind)s, %(label)s, %(target_id)s, %(details)s)
