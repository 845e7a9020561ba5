-- Texts of statements not seen before, in a fixed order against deadlocks.
INSERT INTO perfcore.statement_texts (fingerprint, text)
SELECT fingerprint, text
FROM unnest(%(fingerprints)s::bigint[], %(texts)s::text[]) AS new (fingerprint, text)
ORDER BY fingerprint
ON CONFLICT DO NOTHING
