-- Why a statement has no plan, the latest reason.
INSERT INTO perfcore.plan_refusals (target_id, fingerprint, queryid, reason, remedy)
VALUES (%(target_id)s, %(fingerprint)s, %(queryid)s, %(reason)s, %(remedy)s)
ON CONFLICT (target_id, fingerprint) DO UPDATE
   SET queryid = excluded.queryid, reason = excluded.reason, remedy = excluded.remedy,
       refused_at = excluded.refused_at
