DELETE FROM perfcore.reference_streams WHERE started_at < %(before)s
