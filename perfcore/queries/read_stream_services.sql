-- Which services sent a reference stream lately, in how many pieces and rows, and the last of it.
SELECT service, count(*)::bigint, sum("references")::bigint, min(started_at), max(started_at)
  FROM perfcore.reference_streams
 WHERE started_at >= %(since)s
 GROUP BY service
 ORDER BY service
