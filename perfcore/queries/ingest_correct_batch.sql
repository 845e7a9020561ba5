-- Say in the ledger how much of a batch was stored when some of its rows could not be.
UPDATE perfcore.batches
   SET samples = %(samples)s, raw_samples = %(raw_samples)s
 WHERE batch_id = %(batch_id)s
