-- The spans in which shapes of a statement's plan were in use, with what ran wholly inside them.
-- The latest span counts on for one asking's distance after it was last seen.
WITH spans AS (
    SELECT u.*, coalesce(lead(u.seen_from) OVER later > u.seen_to, false) AS is_over
      FROM perfcore.plan_uses AS u
     WHERE u.target_id = %(target_id)s AND u.fingerprint = %(fingerprint)s
    WINDOW later AS (PARTITION BY u.is_generic ORDER BY u.seen_from, u.plan_use_id)
), counted AS (
    SELECT s.*, CASE WHEN is_over THEN seen_to ELSE seen_to + interval '15 minutes' END AS until
      FROM spans AS s
     WHERE s.seen_from < %(end)s AND s.seen_to >= %(start)s
)
SELECT c.plan_id, p.shape_hash, c.is_generic, c.seen_from, c.seen_to,
       coalesce(w.calls, 0)::bigint, w.total_ms / nullif(w.calls, 0)
  FROM counted AS c
  JOIN perfcore.plans AS p USING (plan_id)
  LEFT JOIN LATERAL (
       SELECT sum(d.calls) AS calls, sum(d.total_exec_time_ms) AS total_ms
         FROM perfcore.statements AS s
         JOIN perfcore.statement_work AS d USING (target_id, queryid)
        WHERE s.target_id = c.target_id AND s.fingerprint = c.fingerprint
          AND d.interval_start >= greatest(c.seen_from, %(start)s)
          AND d.interval_end <= least(c.until, %(end)s)) AS w ON true
 ORDER BY c.seen_from, c.plan_use_id
