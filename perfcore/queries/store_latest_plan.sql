-- The shape that the statement was last seen with.
SELECT shape_hash
  FROM perfcore.plans
 WHERE target_id = %(target_id)s AND queryid = %(queryid)s AND is_generic
 ORDER BY last_seen DESC, plan_id DESC
 LIMIT 1
