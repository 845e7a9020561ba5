-- From where on totals are complete, and which of a range are not.
SELECT rolled_until,
       ARRAY(SELECT bucket_start FROM perfcore.stale_totals
              WHERE resolution = %(resolution)s
                AND bucket_start >= %(start)s AND bucket_start < %(end)s)
  FROM perfcore.rollup_progress
 WHERE resolution = 'totals of ' || %(resolution)s
