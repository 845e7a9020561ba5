SELECT rolled_until FROM perfcore.rollup_progress WHERE resolution = %(resolution)s
