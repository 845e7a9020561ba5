-- What the last round no longer proposes is gone, unless a person has decided about it: a snooze
-- outlives the rounds that do not propose it, until its time is over.
UPDATE perfcore.suggestions
   SET state = 'gone', updated_at = now(),
       state_reason = 'the last round no longer proposes it'
 WHERE target_id = %(target_id)s
   AND (state = 'open' OR (state = 'snoozed' AND snoozed_until <= now()))
   AND suggestion_id <> ALL(%(suggestion_ids)s::text[])
