-- In the store: what a trial or a change delivered of its promise; judged again it is replaced.
INSERT INTO perfcore.gains_delivered AS g
       (target_id, suggestion_id, trial_id, change_id, index_digest, fingerprint, parameters,
        plan_change, evidence, promised_ratio, promised_saved_ms, delivered_ratio, delivered_low,
        delivered_high, delivered_saved_ms)
VALUES (%(target_id)s, %(suggestion_id)s, %(trial_id)s, %(change_id)s, %(index_digest)s,
        %(fingerprint)s, %(parameters)s, %(plan_change)s, %(evidence)s, %(promised_ratio)s,
        %(promised_saved_ms)s, %(delivered_ratio)s, %(delivered_low)s, %(delivered_high)s,
        %(delivered_saved_ms)s)
    ON CONFLICT (source_id, fingerprint, parameters) DO UPDATE
   SET delivered_ratio = excluded.delivered_ratio,
       delivered_low = excluded.delivered_low,
       delivered_high = excluded.delivered_high,
       delivered_saved_ms = excluded.delivered_saved_ms,
       recorded_at = now()
