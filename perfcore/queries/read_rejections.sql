-- The indexes that each target's last round weighed and did not suggest, with the statements they
-- were weighed for; what alone would save most comes first.
SELECT r.target_id, r.index_body, r.reason, r.fingerprints, r.index_bytes, r.saved_ms_per_hour,
       r.updated_at,
       (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                  q.queryid, q.fingerprint, q.text)
                  ORDER BY pg_catalog.array_position(r.fingerprints, q.fingerprint)), '[]')
          FROM (SELECT DISTINCT ON (s.fingerprint) s.queryid, s.fingerprint, s.text
                  FROM perfcore.statements AS s
                 WHERE s.target_id = r.target_id AND s.fingerprint = ANY(r.fingerprints)
                 ORDER BY s.fingerprint, s.last_seen DESC, s.queryid) AS q)
  FROM perfcore.rejections AS r
 WHERE (%(target_id)s::integer IS NULL OR r.target_id = %(target_id)s)
   AND (%(fingerprint)s::bigint IS NULL OR %(fingerprint)s = ANY(r.fingerprints))
 ORDER BY r.saved_ms_per_hour DESC, r.target_id, r.digest
