-- In the store: a step of a trial; what is null stays as it was.
UPDATE perfcore.trials
   SET state = coalesce(%(state)s, state),
       progress = coalesce(%(progress)s, progress),
       message = coalesce(%(message)s, message),
       result = coalesce(%(result)s::jsonb, result),
       finished_at = CASE WHEN %(state)s IN ('done', 'failed') THEN now() ELSE finished_at END
 WHERE trial_id = %(trial_id)s
