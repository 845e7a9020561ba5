-- A minute or an hour is let go only when its hour or day holds it.
DELETE FROM perfcore.metric_rollups
 WHERE resolution = %(resolution)s AND merged AND bucket_start < %(before)s
