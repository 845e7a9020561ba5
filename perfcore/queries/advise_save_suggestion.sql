-- Keep a suggestion of this round. What a person decided stands, but for a snooze that is over: by
-- its time, or because the slowest statement it would help has become slower than it was said to
-- be allowed. One that was gone is open again; the promise of an applied one is not touched.
WITH woken AS (
    SELECT CASE
             WHEN snoozed_until <= now() THEN 'woken: its snooze is over'
             WHEN %(slowest_mean_ms)s::float8 > snoozed_until_ms
             THEN pg_catalog.format(
                    'woken: mean is %%s ms, over %%s ms',
                    pg_catalog.round(
                      %(slowest_mean_ms)s::numeric,
                      CASE WHEN %(slowest_mean_ms)s::float8 < 100 THEN 2 ELSE 0 END),
                    snoozed_until_ms)
           END AS reason
      FROM perfcore.suggestions
     WHERE suggestion_id = %(suggestion_id)s AND state = 'snoozed'
)
INSERT INTO perfcore.suggestions AS s
       (suggestion_id, target_id, kind, title, saved_ms_per_hour, evidence, body)
VALUES (%(suggestion_id)s, %(target_id)s, %(kind)s, %(title)s, %(saved_ms_per_hour)s,
        %(evidence)s, %(body)s)
ON CONFLICT (suggestion_id) DO UPDATE
   SET kind = excluded.kind,
       title = excluded.title,
       saved_ms_per_hour = excluded.saved_ms_per_hour,
       -- A trial's word is stronger than the next round's estimate.
       evidence = CASE WHEN s.evidence = 'measured' THEN s.evidence ELSE excluded.evidence END,
       body = CASE WHEN s.evidence = 'measured'
                   THEN pg_catalog.jsonb_set(excluded.body, '{evidence}', '"measured"')
                   ELSE excluded.body END,
       state = CASE WHEN s.state = 'gone' OR (SELECT reason FROM woken) IS NOT NULL
                    THEN 'open' ELSE s.state END,
       state_reason = CASE WHEN s.state = 'gone' THEN ''
                           ELSE coalesce((SELECT reason FROM woken), s.state_reason) END,
       updated_at = now()
 WHERE s.state <> 'applied'
