-- What a person decided about a suggestion that still stands.
UPDATE perfcore.suggestions
   SET state = %(state)s, state_reason = %(reason)s, snoozed_until = %(snoozed_until)s,
       snoozed_until_ms = %(snoozed_until_ms)s, updated_at = now()
 WHERE suggestion_id = %(suggestion_id)s AND state IN ('open', 'dismissed', 'snoozed')
