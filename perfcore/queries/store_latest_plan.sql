-- The use that a statement's plan is in, generic or for given parameters.
SELECT u.plan_use_id, u.plan_id, p.shape_hash
  FROM perfcore.plan_uses AS u
  JOIN perfcore.plans AS p USING (plan_id)
 WHERE u.target_id = %(target_id)s AND u.fingerprint = %(fingerprint)s
   AND u.is_generic = %(is_generic)s
 ORDER BY u.seen_from DESC, u.plan_use_id DESC
 LIMIT 1
