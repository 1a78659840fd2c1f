-- The site database. Instants are microseconds since 1970 UTC; digests are 64 hexadecimal digits, or 32 bytes where there
-- are many; states are the published numbers. A column `site` is the namespace; what hangs on a client, an update or a line
-- carries no site of its own.

-- One row. `owner` is the process that wrote last: another process drops its caches when it sees it. `deltas` is the id of
-- the last row of count_delta ever written, `folded` of the last one that count_total contains.
CREATE TABLE writer (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    deltas INTEGER NOT NULL,
    folded INTEGER NOT NULL
);
INSERT INTO writer (id, owner, deltas, folded) VALUES (1, '', 0, 0);

-- Rises with each commit that can change a decision (kind 'site') or a policy (kind 'policy').
CREATE TABLE change (
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (site, kind)
) WITHOUT ROWID;

CREATE TABLE site_value (
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (site, name)
) WITHOUT ROWID;

CREATE TABLE object (
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    generation INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (site, kind, name)
);

CREATE TABLE blocked (
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (site, kind, name)
) WITHOUT ROWID;

-- The catalogue.

CREATE TABLE line (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    release_date INTEGER NOT NULL,
    synced_at INTEGER NOT NULL,
    catalogue_version INTEGER,
    catalogue_digest TEXT,
    catalogue_size INTEGER,
    UNIQUE (site, name)
);

-- `body` is the update's document (zstd, JSON), `revision` the digest of what makes it the same revision, `applicability`
-- of its leaves alone. `since_version` is the catalogue version in which its applicability changed last.
CREATE TABLE software_update (
    id INTEGER PRIMARY KEY,
    line INTEGER NOT NULL REFERENCES line (id),
    source TEXT NOT NULL,
    version TEXT NOT NULL,
    title TEXT NOT NULL,
    classification TEXT NOT NULL,
    product TEXT NOT NULL,
    severity INTEGER NOT NULL,
    posted INTEGER NOT NULL,
    superseded_by TEXT,
    superseded_at INTEGER,
    expired INTEGER NOT NULL,
    since_version INTEGER NOT NULL,
    revision BLOB NOT NULL,
    applicability BLOB NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (line, source, version)
);

CREATE TABLE leaf (
    package TEXT NOT NULL,
    architecture TEXT NOT NULL,
    version TEXT NOT NULL,
    update_id INTEGER NOT NULL REFERENCES software_update (id),
    PRIMARY KEY (package, architecture, version, update_id)
) WITHOUT ROWID;
CREATE INDEX leaf_update ON leaf (update_id);

-- Clients.

CREATE TABLE enrolment (
    site TEXT NOT NULL,
    id TEXT NOT NULL,
    csr TEXT NOT NULL,
    token TEXT,
    name TEXT NOT NULL,
    facts TEXT NOT NULL,
    address TEXT,
    requested_at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    client TEXT,
    reason TEXT,
    PRIMARY KEY (site, id)
);
CREATE INDEX enrolment_state ON enrolment (site, state, requested_at);

CREATE TABLE token (
    site TEXT NOT NULL,
    digest TEXT NOT NULL,
    one_time INTEGER NOT NULL,
    expires INTEGER,
    name TEXT NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (site, digest)
) WITHOUT ROWID;

-- `state`: 0 pending, 1 active, 2 revoked, 3 quarantined.
CREATE TABLE client (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    state INTEGER NOT NULL,
    facts TEXT NOT NULL,
    address TEXT,
    last_contact INTEGER,
    certificate TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    UNIQUE (site, uuid)
);
CREATE INDEX client_state ON client (site, state);

CREATE TABLE policy (
    client INTEGER PRIMARY KEY REFERENCES client (id),
    epoch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body_digest TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    envelope BLOB NOT NULL
);

-- What clients report. client_sequence is written with every report, client_session when something in it changed.

CREATE TABLE client_sequence (
    client INTEGER PRIMARY KEY REFERENCES client (id),
    sequence INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    skew INTEGER NOT NULL
);

CREATE TABLE client_session (
    client INTEGER PRIMARY KEY REFERENCES client (id),
    incarnation TEXT NOT NULL,
    boot TEXT NOT NULL,
    earlier TEXT NOT NULL,
    gap_since INTEGER,
    asked INTEGER,
    policy_epoch INTEGER,
    policy_number INTEGER,
    scan INTEGER NOT NULL,
    scan_error TEXT
);

-- The watermark: a complete scan of a line at a catalogue version; `needs` is the leaf set it would newly depend on.
CREATE TABLE client_line (
    client INTEGER NOT NULL REFERENCES client (id),
    line INTEGER NOT NULL REFERENCES line (id),
    version INTEGER NOT NULL,
    scanned_at INTEGER NOT NULL,
    needs INTEGER,
    PRIMARY KEY (client, line)
) WITHOUT ROWID;

-- Parts of scans whose last part has not come.
CREATE TABLE scan_part (
    client INTEGER NOT NULL REFERENCES client (id),
    line TEXT NOT NULL,
    version INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (client, line)
);

-- Slots: 256 to a segment, a segment belongs to one line. slot = segment * 256 + ordinal. An update whose applicability
-- changed gets a new slot; the old one keeps no update.
CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    line INTEGER NOT NULL REFERENCES line (id),
    used INTEGER NOT NULL
);

CREATE TABLE slot (
    slot INTEGER PRIMARY KEY,
    update_id INTEGER UNIQUE REFERENCES software_update (id)
);

-- One byte a slot: detection (0 none, 2 required, 3 installed) + 4 * enforcement; trailing zeros cut.
CREATE TABLE seg_state (
    segment INTEGER NOT NULL,
    client INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    states BLOB NOT NULL,
    PRIMARY KEY (segment, client)
) WITHOUT ROWID;
CREATE INDEX seg_state_client ON seg_state (client);

-- The same for clients with only a few states in a segment.
CREATE TABLE sparse_state (
    slot INTEGER NOT NULL,
    client INTEGER NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (slot, client)
) WITHOUT ROWID;
CREATE INDEX sparse_state_client ON sparse_state (client);

-- What is required: since when, and which leaves the client requires; one document a client and line:
-- {"<slot>": [instant, leaf set or null], ...}. As rows it would be half of what a scan writes.
CREATE TABLE client_required (
    client INTEGER NOT NULL,
    line INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (client, line)
) WITHOUT ROWID;

-- The same as rows for what failed, with the error, and for what is `early`: reported before the catalogue had the update,
-- beyond the client's watermark.
CREATE TABLE update_detail (
    slot INTEGER NOT NULL,
    client INTEGER NOT NULL,
    since INTEGER NOT NULL,
    leaf_set INTEGER,
    early INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (slot, client)
) WITHOUT ROWID;
CREATE INDEX update_detail_client ON update_detail (client);

CREATE TABLE leaf_set (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    digest BLOB NOT NULL,
    leaves TEXT NOT NULL,
    UNIQUE (site, digest)
);

-- States of updates that the catalogue does not have (yet).
CREATE TABLE parked (
    client INTEGER NOT NULL REFERENCES client (id),
    line TEXT NOT NULL,
    source TEXT NOT NULL,
    version TEXT NOT NULL,
    detection INTEGER,
    enforcement INTEGER,
    leaves TEXT,
    error TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (client, line, source, version)
);
CREATE INDEX parked_line ON parked (line);

CREATE TABLE deployment_client (
    uid TEXT NOT NULL,
    client INTEGER NOT NULL REFERENCES client (id),
    enforcement INTEGER,
    compliance INTEGER,
    evaluation INTEGER,
    until INTEGER,
    error TEXT,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (uid, client)
);
CREATE INDEX deployment_client_client ON deployment_client (client);

-- Counts over active clients. scope = slot: state 2 required, 3 installed, 4 reported early, -leaf set who requires just
-- these leaves; scope = -line: state = catalogue version of the watermark. What count_total does not contain yet is in count_delta.
CREATE TABLE count_total (
    scope INTEGER NOT NULL,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope, state)
) WITHOUT ROWID;

CREATE TABLE count_delta (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- The accepted messages, one row a commit: hash = SHA-256 of the previous hash, the number and the body.
CREATE TABLE history (
    site TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (site, number)
);

-- Content.

CREATE TABLE content (
    site TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    url TEXT NOT NULL,
    update_name TEXT NOT NULL,
    state INTEGER NOT NULL,
    message TEXT,
    changed_at INTEGER,
    PRIMARY KEY (site, digest)
);

CREATE TABLE dp_content (
    site TEXT NOT NULL,
    dp TEXT NOT NULL,
    digest TEXT NOT NULL,
    wanted INTEGER NOT NULL,
    present INTEGER NOT NULL,
    message TEXT,
    changed_at INTEGER,
    PRIMARY KEY (site, dp, digest)
) WITHOUT ROWID;
CREATE INDEX dp_content_digest ON dp_content (site, digest);
