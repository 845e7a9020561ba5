-- Keep a row that no table takes, with the reason; at most ten thousand, each for thirty days.
WITH expired AS (
    DELETE FROM perfcore.quarantine WHERE received_at < now() - interval '30 days'
)
INSERT INTO perfcore.quarantine (batch_id, service, process, kind, reason, samples, content)
SELECT %(batch_id)s, %(service)s, %(process)s, %(kind)s, %(reason)s, %(samples)s, %(content)s
 WHERE (SELECT count(*) FROM perfcore.quarantine) < 10000
