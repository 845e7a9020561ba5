-- Why a statement had no plan when it was last asked for.
SELECT reason, remedy, refused_at
  FROM perfcore.plan_refusals
 WHERE fingerprint = %(fingerprint)s
   AND (%(target_id)s::integer IS NULL OR target_id = %(target_id)s)
 ORDER BY refused_at DESC
 LIMIT 1
