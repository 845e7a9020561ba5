-- Spans of a range whose work is not known, the latest first.
SELECT view, gap_start, gap_end, reason, queryids
  FROM perfcore.collection_gaps
 WHERE target_id = %(target_id)s
   AND gap_end > %(start)s AND gap_start < %(end)s
 ORDER BY gap_end DESC
