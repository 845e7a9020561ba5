-- What the last round no longer proposes is gone, unless a person has decided about it.
UPDATE perfcore.suggestions
   SET state = 'gone', updated_at = now(),
       state_reason = 'the last round no longer proposes it'
 WHERE target_id = %(target_id)s AND state IN ('open', 'snoozed')
   AND suggestion_id <> ALL(%(suggestion_ids)s::text[])
