-- A statement by queryid: as the server knows it, and as the application sends it.
SELECT s.target_id, g.name, s.queryid, s.fingerprint, s.text, coalesce(t.text, ''),
       s.first_seen, s.last_seen,
       ARRAY(SELECT o.queryid FROM perfcore.statements AS o
              WHERE o.target_id = s.target_id AND o.fingerprint = s.fingerprint
              ORDER BY o.last_seen DESC)
  FROM perfcore.statements AS s
  JOIN perfcore.targets AS g USING (target_id)
  LEFT JOIN perfcore.statement_texts AS t ON t.fingerprint = s.fingerprint
 WHERE (%(queryid)s::bigint IS NULL OR s.queryid = %(queryid)s)
   AND (%(fingerprint)s::bigint IS NULL OR s.fingerprint = %(fingerprint)s)
   AND (%(target_id)s::integer IS NULL OR s.target_id = %(target_id)s)
 ORDER BY s.last_seen DESC
 LIMIT 1
