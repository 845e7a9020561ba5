-- How complete the server's list of statements was in a range.
SELECT count(*), sum(evictions)::bigint, max(entries), max(max_entries),
       coalesce(sum(counted_ms) FILTER (WHERE active_ms IS NOT NULL), 0), sum(active_ms)
  FROM perfcore.statement_intervals
 WHERE target_id = %(target_id)s
   AND interval_end > %(start)s AND interval_end <= %(end)s
