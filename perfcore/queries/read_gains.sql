-- Promised and delivered, of all targets, the latest first. An index tried or judged again on a
-- statement counts by its latest answer, one for each kind of evidence.
WITH latest AS (
    SELECT DISTINCT ON (target_id, index_digest, fingerprint, evidence) source_id, fingerprint
      FROM perfcore.gains_delivered
     ORDER BY target_id, index_digest, fingerprint, evidence, recorded_at DESC, gain_id DESC
)
SELECT g.target_id, t.name, g.suggestion_id, g.trial_id, g.change_id, g.index_digest,
       g.fingerprint, s.text, g.parameters, g.plan_change, g.evidence, g.promised_ratio,
       g.promised_saved_ms, g.delivered_ratio, g.delivered_low, g.delivered_high,
       g.delivered_saved_ms, g.recorded_at
  FROM perfcore.gains_delivered g
  JOIN latest l USING (source_id, fingerprint)
  JOIN perfcore.targets t USING (target_id)
  LEFT JOIN LATERAL (
       SELECT text
         FROM perfcore.statements s
        WHERE s.target_id = g.target_id AND s.fingerprint = g.fingerprint
        ORDER BY s.last_seen DESC
        LIMIT 1) s ON true
 ORDER BY g.recorded_at DESC, g.gain_id DESC
 LIMIT %(limit)s
