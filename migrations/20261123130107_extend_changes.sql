-- What a change is as structure, and that its removal was asked for: both let an interrupted one be finished.
ALTER TABLE perfcore.changes ADD COLUMN index_body jsonb;
ALTER TABLE perfcore.changes ADD COLUMN revert_requested_at timestamptz;
ALTER TABLE perfcore.changes ADD COLUMN progress double precision NOT NULL DEFAULT 0;
