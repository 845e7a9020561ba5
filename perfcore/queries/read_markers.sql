-- The instants to draw on every chart of a range.
SELECT marker_id, at, kind, label, target_id, service, details
  FROM perfcore.markers
 WHERE at >= %(start)s AND at < %(end)s
 ORDER BY at, marker_id
