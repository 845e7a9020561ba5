DELETE FROM perfcore.batches WHERE received_at < %(before)s
