-- Plans of a statement, or one by its id, the one seen last first.
SELECT plan_id, target_id, fingerprint, queryid, shape_hash, is_generic, total_cost, plan,
       first_seen, last_seen, parameters_at
  FROM perfcore.plans
 WHERE (%(plan_id)s::bigint IS NULL OR plan_id = %(plan_id)s)
   AND (%(fingerprint)s::bigint IS NULL OR fingerprint = %(fingerprint)s)
   AND (%(target_id)s::integer IS NULL OR target_id = %(target_id)s)
 ORDER BY last_seen DESC, plan_id DESC
