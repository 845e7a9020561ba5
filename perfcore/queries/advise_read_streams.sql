-- The reference stream since an instant, packed as its senders packed it.
SELECT started_at, service, process, content
  FROM perfcore.reference_streams
 WHERE started_at >= %(since)s
 ORDER BY started_at
