INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text)
VALUES (%(target_id)s, %(queryid)s, %(fingerprint)s, %(text)s)
ON CONFLICT (target_id, queryid) DO UPDATE SET last_seen = now()
