-- Plans of a statement, or one by its id, the one seen last first; of one for given values, when
-- these were captured.
SELECT p.plan_id, p.target_id, p.fingerprint, p.queryid, p.shape_hash, p.is_generic, p.total_cost,
       p.plan, p.first_seen, p.last_seen, u.parameters_at
  FROM perfcore.plans AS p
  LEFT JOIN LATERAL (
       SELECT parameters_at FROM perfcore.plan_uses
        WHERE plan_id = p.plan_id AND NOT is_generic AND NOT p.is_generic
        ORDER BY seen_to DESC LIMIT 1) AS u ON true
 WHERE (%(plan_id)s::bigint IS NULL OR p.plan_id = %(plan_id)s)
   AND (%(fingerprint)s::bigint IS NULL OR p.fingerprint = %(fingerprint)s)
   AND (%(target_id)s::integer IS NULL OR p.target_id = %(target_id)s)
 ORDER BY p.last_seen DESC, p.plan_id DESC
