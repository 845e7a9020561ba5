UPDATE perfcore.plan_uses
   SET seen_to = greatest(seen_to, %(seen_at)s), parameters_at = %(parameters_at)s
 WHERE plan_use_id = %(plan_use_id)s
