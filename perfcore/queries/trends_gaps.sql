-- Spans of a range in which a database's own counters are not known.
SELECT gap_start, gap_end
  FROM perfcore.collection_gaps
 WHERE view = 'pg_stat_database'
   AND gap_end > %(start)s AND gap_start < %(end)s
