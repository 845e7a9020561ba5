-- In the store: what became of a suggestion.
UPDATE perfcore.suggestions
   SET state = %(state)s, state_reason = %(reason)s, updated_at = now()
 WHERE suggestion_id = %(suggestion_id)s
