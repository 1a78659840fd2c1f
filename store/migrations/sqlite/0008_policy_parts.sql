-- What policies say is kept once for all clients that are told the same: in parts, compressed, named by their digest (32
-- bytes). A policy is a signed statement that names its two parts. Policies of the form before this one name none: they are
-- served to nobody and compiled anew with the next number, for no body has the digest 0.
CREATE TABLE policy_part (
    site TEXT NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (site, digest)
);
ALTER TABLE policy RENAME COLUMN envelope TO statement;
ALTER TABLE policy ADD COLUMN orders BLOB NOT NULL DEFAULT X'';
ALTER TABLE policy ADD COLUMN updates BLOB NOT NULL DEFAULT X'';
UPDATE policy SET statement = X'', body_digest = '0000000000000000000000000000000000000000000000000000000000000000';
CREATE INDEX policy_orders ON policy (orders);
CREATE INDEX policy_updates ON policy (updates);
