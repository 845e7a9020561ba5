-- Keep each index's counter of this reading, since when it is watched, and when it last moved.
-- Another index with the number of one that is gone begins anew.
INSERT INTO perfcore.index_uses AS u
       (target_id, index_oid, index_name, scans, watched_since, read_at)
SELECT %(target_id)s, given.oid, given.name, given.scans, %(read_at)s, %(read_at)s
  FROM unnest(%(oids)s::bigint[], %(names)s::text[], %(scans)s::bigint[])
       AS given (oid, name, scans)
ON CONFLICT (target_id, index_oid) DO UPDATE
   SET index_name = excluded.index_name,
       scans = excluded.scans,
       read_at = excluded.read_at,
       watched_since = CASE WHEN u.index_name = excluded.index_name THEN u.watched_since
                            ELSE excluded.watched_since END,
       last_used_at = CASE WHEN u.index_name <> excluded.index_name THEN NULL
                           WHEN excluded.scans > 0 AND excluded.scans <> u.scans
                           THEN excluded.read_at ELSE u.last_used_at END
RETURNING u.index_oid, u.watched_since, u.last_used_at
