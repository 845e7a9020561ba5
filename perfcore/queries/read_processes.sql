-- The accounting of each sending process: its batches here, and the totals it told last.
WITH arrived AS (
    SELECT service, process, count(*) AS batches, sum(samples)::bigint AS samples,
           sum(raw_samples)::bigint AS raw_samples,
           count(*) FILTER (WHERE was_spooled) AS spooled_batches,
           max(received_at) AS last_received_at, max(sent_at) AS last_sent_at
      FROM perfcore.batches
     GROUP BY service, process
)
SELECT DISTINCT ON (a.last_received_at, a.service, a.process)
       a.service, a.process, a.batches, a.samples, a.raw_samples, a.spooled_batches,
       a.last_received_at, a.last_sent_at, b.totals
  FROM arrived a
  JOIN perfcore.batches b
    ON (b.service, b.process, b.sent_at) = (a.service, a.process, a.last_sent_at)
 ORDER BY a.last_received_at DESC, a.service, a.process, b.received_at DESC
