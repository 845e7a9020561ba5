-- One line an hour for what may go on and on.
INSERT INTO perfcore.markers (kind, label, target_id)
SELECT %(kind)s, %(label)s, %(target_id)s
 WHERE NOT EXISTS (SELECT FROM perfcore.markers
                    WHERE kind = %(kind)s AND target_id = %(target_id)s
                      AND label = %(label)s AND at > now() - interval '1 hour')
