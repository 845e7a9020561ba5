-- Forget the indexes that the target has no longer.
DELETE FROM perfcore.index_uses
 WHERE target_id = %(target_id)s AND read_at < %(read_at)s
