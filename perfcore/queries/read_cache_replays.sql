-- What the last round of advice on each target says of caches, the most time spent first.
SELECT r.target_id, t.name, r.replayed_at, r.body
  FROM perfcore.cache_replays AS r
  JOIN perfcore.targets AS t USING (target_id)
 ORDER BY t.name, r.position
