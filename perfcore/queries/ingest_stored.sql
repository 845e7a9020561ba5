-- How many samples of each batch were stored.
SELECT batch_id::text, samples FROM perfcore.batches WHERE batch_id = ANY (%(batch_ids)s::uuid[])
