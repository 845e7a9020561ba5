-- In the store: changes that somebody began and nobody ended, with their target's name. One that
-- was written down a moment ago has a worker that is about to begin.
SELECT c.change_id::text, t.name
  FROM perfcore.changes c
  JOIN perfcore.targets t USING (target_id)
 WHERE c.origin = 'perfcore'
   AND (c.state = 'running'
        OR (c.state = 'intended' AND c.intended_at < now() - interval '1 minute')
        OR (c.state = 'failed' AND c.index_oid IS NOT NULL)
        OR (c.state = 'applied' AND c.revert_requested_at IS NOT NULL))
 ORDER BY c.intended_at
