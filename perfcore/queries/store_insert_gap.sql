-- A span whose work is not known.
INSERT INTO perfcore.collection_gaps (target_id, view, gap_start, gap_end, reason, queryids)
VALUES (%(target_id)s, %(view)s, %(start)s, %(end)s, %(reason)s, %(queryids)s::bigint[])
