-- The next round's rejections take the place of the last one's.
DELETE FROM perfcore.rejections WHERE target_id = %(target_id)s
