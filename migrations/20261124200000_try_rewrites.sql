-- A trial tries an index, or a rewritten statement with the indexes that it needs.
SET LOCAL search_path = perfcore;

ALTER TABLE trials ALTER COLUMN index_body DROP NOT NULL;
ALTER TABLE trials ADD COLUMN rewritten_sql text;  -- null when an index was tried
-- Every trial so far has its index: there is nothing to scan them for.
ALTER TABLE trials ADD CONSTRAINT trials_subject_check
    CHECK ((index_body IS NULL) <> (rewritten_sql IS NULL)) NOT VALID;
