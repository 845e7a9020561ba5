-- Gaps of single statements are seconds long: they matter where charts have short steps.
DELETE FROM perfcore.collection_gaps
 WHERE gap_end < %(before)s
    OR (queryids IS NOT NULL AND gap_end < %(before)s + interval '12 days')
