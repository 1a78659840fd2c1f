-- The change number with which the row became what it is, last contact and certificate apart: who compiles policies reads
-- those above the number that it has seen.
ALTER TABLE client ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX client_changed ON client (site, changed);
