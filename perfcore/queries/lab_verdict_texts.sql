-- In the store: one text for each fingerprint.
SELECT DISTINCT ON (fingerprint) fingerprint, text
  FROM perfcore.statements
 WHERE target_id = %(target_id)s
   AND fingerprint = ANY (%(fingerprints)s)
 ORDER BY fingerprint, last_seen DESC
