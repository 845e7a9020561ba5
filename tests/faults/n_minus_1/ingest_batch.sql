-- Claim a batch. A batch that is already there returns no row: it was stored before.
INSERT INTO perfcore.batches
    (batch_id, service, process, sent_at, samples, raw_samples, was_spooled, totals)
VALUES
    (%(batch_id)s, %(service)s, %(process)s, %(sent_at)s, %(samples)s, %(raw_samples)s,
     %(was_spooled)s, %(totals)s)
ON CONFLICT (batch_id) DO NOTHING
RETURNING batch_id
