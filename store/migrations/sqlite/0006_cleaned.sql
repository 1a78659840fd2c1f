-- Rises when a clean-up removes updates of the line: what was looked up before is looked up anew.
ALTER TABLE line ADD COLUMN cleaned INTEGER NOT NULL DEFAULT 0;
