-- Keep an index that was weighed and not suggested.
INSERT INTO perfcore.rejections
       (target_id, digest, index_body, reason, fingerprints, index_bytes, saved_ms_per_hour)
VALUES (%(target_id)s, %(digest)s, %(index_body)s, %(reason)s, %(fingerprints)s,
        %(index_bytes)s, %(saved_ms_per_hour)s)
ON CONFLICT (target_id, digest) DO NOTHING
