-- The oldest row that is to be moved; a reading belongs to the hour in which it ended.
SELECT min(interval_end) - interval '1 microsecond' AS at
  FROM perfcore.statement_deltas WHERE interval_end <= %(before)s
