DELETE FROM perfcore.plan_refusals
 WHERE target_id = %(target_id)s AND fingerprint = %(fingerprint)s
