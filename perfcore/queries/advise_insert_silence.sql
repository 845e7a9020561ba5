INSERT INTO perfcore.silences (target_id, fingerprint, queryid, reason, detail)
VALUES (%(target_id)s, %(fingerprint)s, %(queryid)s, %(reason)s, %(detail)s)
ON CONFLICT (target_id, fingerprint) DO UPDATE
   SET queryid = excluded.queryid, reason = excluded.reason, detail = excluded.detail,
       updated_at = now()
