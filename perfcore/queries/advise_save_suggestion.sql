-- Keep a suggestion of this round. What a person decided stands; one that was gone, or whose
-- snooze is over, is open again; the promise of an applied one is not touched any more.
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
       state = CASE WHEN s.state = 'gone'
                      OR (s.state = 'snoozed' AND s.snoozed_until <= now())
                    THEN 'open' ELSE s.state END,
       state_reason = CASE WHEN s.state = 'gone' THEN '' ELSE s.state_reason END,
       updated_at = now()
 WHERE s.state <> 'applied'
