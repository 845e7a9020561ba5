-- The latest plans with actual rows: of trials' runs without the index, and of those captured.
SELECT * FROM (
    (SELECT t.fingerprint, runs.set -> 'baseline' -> 'plan' AS plan
       FROM perfcore.trials AS t
      CROSS JOIN LATERAL jsonb_array_elements(t.result -> 'measured' -> 'sets') AS runs (set)
      WHERE t.target_id = %(target_id)s AND t.finished_at >= %(since)s
        AND jsonb_typeof(t.result -> 'measured' -> 'sets') = 'array'
      ORDER BY t.finished_at DESC LIMIT 100)
    UNION ALL
    (SELECT p.fingerprint, p.plan
       FROM perfcore.plans AS p
      WHERE p.target_id = %(target_id)s AND p.last_seen >= %(since)s
        AND jsonb_path_exists(p.plan, '$.**."Actual Rows"')
      ORDER BY p.last_seen DESC LIMIT 100)
) AS executed
