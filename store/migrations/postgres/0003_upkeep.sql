-- Rises with each collection of leaf sets. What was looked up in an earlier one is looked up anew before it is referred to.
ALTER TABLE writer ADD COLUMN set_epoch BIGINT NOT NULL DEFAULT 0;

-- The collection since which the row has been given out to be referred to.
ALTER TABLE leaf_set ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;

-- Files that were damaged on disk, by place: '' the site's library, else the distribution point's name.
CREATE TABLE content_damage (
    site TEXT NOT NULL,
    place TEXT NOT NULL,
    digest TEXT NOT NULL,
    detail TEXT NOT NULL,
    found_at BIGINT NOT NULL,
    repaired_at BIGINT,
    PRIMARY KEY (site, place, digest)
);

-- How far the check of each place is: files up to `position` are read since `started_at`.
CREATE TABLE content_check (
    site TEXT NOT NULL,
    place TEXT NOT NULL,
    position TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    completed_at BIGINT,
    PRIMARY KEY (site, place)
);
