-- How complete the list of statements was between two readings.
INSERT INTO perfcore.statement_intervals
       (target_id, interval_start, interval_end, entries, max_entries, evictions, counted_ms,
        active_ms)
VALUES (%(target_id)s, %(start)s, %(end)s, %(entries)s, %(max_entries)s, %(evictions)s,
        %(counted_ms)s, %(active_ms)s)
