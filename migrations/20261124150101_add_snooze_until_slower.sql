-- A suggestion may sleep until its slowest statement's mean is above this.
ALTER TABLE perfcore.suggestions ADD COLUMN snoozed_until_ms double precision;
