-- In the store: the nearest other changes of the same statements, before and after this one.
SELECT max(greatest(o.applied_at, o.reverted_at))
         FILTER (WHERE greatest(o.applied_at, o.reverted_at) <= %(began)s) AS previous_change,
       min(coalesce(o.started_at, o.applied_at))
         FILTER (WHERE coalesce(o.started_at, o.applied_at) > %(applied)s) AS next_change
  FROM perfcore.changes o
 WHERE o.target_id = %(target_id)s
   AND o.change_id <> %(change_id)s
   AND o.applied_at IS NOT NULL
   AND o.fingerprints && %(fingerprints)s::bigint[]
