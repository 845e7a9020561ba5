DELETE FROM perfcore.repetitions WHERE bucket_start < %(before)s
