-- The catalogues that clients were given, by digest: numbers of updates in a report mean what they mean in one of these.
-- A site that was restored from a copy does not have the later ones, and may have given their numbers to other updates.

CREATE TABLE published_catalogue (
    line BIGINT NOT NULL REFERENCES line (id),
    digest TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (line, digest)
);

INSERT INTO published_catalogue (line, digest, version)
SELECT id, catalogue_digest, catalogue_version FROM line WHERE catalogue_digest IS NOT NULL;
