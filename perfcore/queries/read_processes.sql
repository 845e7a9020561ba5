-- The accounting of each sending process: its batches here, and the totals it told last.
SELECT service, process, count(*), sum(samples)::bigint, sum(raw_samples)::bigint,
       count(*) FILTER (WHERE was_spooled), max(received_at), max(sent_at),
       (array_agg(totals ORDER BY sent_at DESC, received_at DESC))[1]
  FROM perfcore.batches
 GROUP BY service, process
 ORDER BY max(received_at) DESC
