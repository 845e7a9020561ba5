-- What the target ran since an instant, one row a fingerprint; the text and queryid are those of
-- its heaviest form, the window is what the collector really saw.
SELECT s.fingerprint,
       (array_agg(s.queryid ORDER BY d.total_exec_time_ms DESC, s.queryid))[1],
       (array_agg(s.text ORDER BY d.total_exec_time_ms DESC, s.queryid))[1],
       sum(d.calls)::bigint,
       sum(d.total_exec_time_ms),
       max(w.seconds),
       sum(d.rows)::bigint,
       sum(d.shared_blks_hit)::bigint,
       sum(d.shared_blks_read)::bigint,
       sum(d.temp_blks_written)::bigint
  FROM (SELECT queryid, sum(calls) AS calls, sum(total_exec_time_ms) AS total_exec_time_ms,
               sum(rows) AS rows, sum(shared_blks_hit) AS shared_blks_hit,
               sum(shared_blks_read) AS shared_blks_read,
               sum(temp_blks_written) AS temp_blks_written
          FROM perfcore.statement_deltas
         WHERE target_id = %(target_id)s AND interval_end > %(since)s
         GROUP BY queryid) AS d
  JOIN perfcore.statements AS s ON s.target_id = %(target_id)s AND s.queryid = d.queryid
 CROSS JOIN (SELECT extract(epoch FROM max(interval_end) - min(interval_start))::float8 AS seconds
               FROM perfcore.statement_deltas
              WHERE target_id = %(target_id)s AND interval_end > %(since)s) AS w
 WHERE d.calls > 0 AND s.text NOT LIKE '/* perfcore */%%'
 GROUP BY s.fingerprint
 ORDER BY sum(d.total_exec_time_ms) DESC, s.fingerprint
