-- In the store: a line in every chart.
INSERT INTO perfcore.markers (kind, label, target_id, details)
VALUES ('change', %(label)s, %(target_id)s, %(details)s)
