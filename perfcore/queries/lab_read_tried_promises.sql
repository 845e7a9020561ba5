-- In the store: what trials of an index noted as promised, one for each statement, the latest.
SELECT DISTINCT ON (fingerprint)
       fingerprint, plan_change, promised_ratio, promised_saved_ms
  FROM perfcore.gains_delivered
 WHERE target_id = %(target_id)s
   AND index_digest = %(index_digest)s
   AND trial_id IS NOT NULL
 ORDER BY fingerprint, recorded_at DESC, gain_id DESC
