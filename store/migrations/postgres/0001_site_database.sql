-- The site database. Instants are microseconds since 1970 UTC; digests are 64 hexadecimal digits, or 32 bytes where there
-- are many; states are the published numbers. A column `site` is the namespace; what hangs on a client, an update or a line
-- carries no site of its own.

-- One row. `owner` is the process that wrote last: another process drops its caches when it sees it. `deltas` is the id of
-- the last row of count_delta ever written, `folded` of the last one that count_total contains.
CREATE TABLE writer (
    id BIGINT PRIMARY KEY,
    owner TEXT NOT NULL,
    deltas BIGINT NOT NULL,
    folded BIGINT NOT NULL
);
INSERT INTO writer (id, owner, deltas, folded) VALUES (1, '', 0, 0);

-- Rises with each commit that can change a decision (kind 'site') or a policy (kind 'policy').
CREATE TABLE change (
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (site, kind)
);

CREATE TABLE site_value (
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (site, name)
);

CREATE TABLE object (
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    generation BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (site, kind, name)
);

CREATE TABLE blocked (
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (site, kind, name)
);

-- The catalogue.

CREATE TABLE line (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    release_date BIGINT NOT NULL,
    synced_at BIGINT NOT NULL,
    catalogue_version BIGINT,
    catalogue_digest TEXT,
    catalogue_size BIGINT,
    UNIQUE (site, name)
);

-- `body` is the update's document (zstd, JSON), `revision` the digest of what makes it the same revision, `applicability`
-- of its leaves alone. `since_version` is the catalogue version in which its applicability changed last.
CREATE TABLE software_update (
    id BIGINT PRIMARY KEY,
    line BIGINT NOT NULL REFERENCES line (id),
    source TEXT NOT NULL,
    version TEXT NOT NULL,
    title TEXT NOT NULL,
    classification TEXT NOT NULL,
    product TEXT NOT NULL,
    severity BIGINT NOT NULL,
    posted BIGINT NOT NULL,
    superseded_by TEXT,
    superseded_at BIGINT,
    expired BIGINT NOT NULL,
    since_version BIGINT NOT NULL,
    revision BYTEA NOT NULL,
    applicability BYTEA NOT NULL,
    body BYTEA NOT NULL,
    UNIQUE (line, source, version)
);

CREATE TABLE leaf (
    package TEXT NOT NULL,
    architecture TEXT NOT NULL,
    version TEXT NOT NULL,
    update_id BIGINT NOT NULL REFERENCES software_update (id),
    PRIMARY KEY (package, architecture, version, update_id)
);
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
    requested_at BIGINT NOT NULL,
    state BIGINT NOT NULL,
    client TEXT,
    reason TEXT,
    PRIMARY KEY (site, id)
);
CREATE INDEX enrolment_state ON enrolment (site, state, requested_at);

CREATE TABLE token (
    site TEXT NOT NULL,
    digest TEXT NOT NULL,
    one_time BIGINT NOT NULL,
    expires BIGINT,
    name TEXT NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (site, digest)
);

-- `state`: 0 pending, 1 active, 2 revoked, 3 quarantined.
CREATE TABLE client (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    state BIGINT NOT NULL,
    facts TEXT NOT NULL,
    address TEXT,
    last_contact BIGINT,
    certificate TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    UNIQUE (site, uuid)
);
CREATE INDEX client_state ON client (site, state);

CREATE TABLE policy (
    client BIGINT PRIMARY KEY REFERENCES client (id),
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    body_digest TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    envelope BYTEA NOT NULL
);

-- What clients report. client_sequence is written with every report, client_session when something in it changed.

CREATE TABLE client_sequence (
    client BIGINT PRIMARY KEY REFERENCES client (id),
    sequence BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    skew BIGINT NOT NULL
);

CREATE TABLE client_session (
    client BIGINT PRIMARY KEY REFERENCES client (id),
    incarnation TEXT NOT NULL,
    boot TEXT NOT NULL,
    earlier TEXT NOT NULL,
    gap_since BIGINT,
    asked BIGINT,
    policy_epoch BIGINT,
    policy_number BIGINT,
    scan BIGINT NOT NULL,
    scan_error TEXT
);

-- The watermark: a complete scan of a line at a catalogue version; `needs` is the leaf set it would newly depend on.
CREATE TABLE client_line (
    client BIGINT NOT NULL REFERENCES client (id),
    line BIGINT NOT NULL REFERENCES line (id),
    version BIGINT NOT NULL,
    scanned_at BIGINT NOT NULL,
    needs BIGINT,
    PRIMARY KEY (client, line)
);

-- Parts of scans whose last part has not come.
CREATE TABLE scan_part (
    client BIGINT NOT NULL REFERENCES client (id),
    line TEXT NOT NULL,
    version BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (client, line)
);

-- Slots: 256 to a segment, a segment belongs to one line. slot = segment * 256 + ordinal. An update whose applicability
-- changed gets a new slot; the old one keeps no update.
CREATE TABLE segment (
    id BIGINT PRIMARY KEY,
    line BIGINT NOT NULL REFERENCES line (id),
    used BIGINT NOT NULL
);

CREATE TABLE slot (
    slot BIGINT PRIMARY KEY,
    update_id BIGINT UNIQUE REFERENCES software_update (id)
);

-- One byte a slot: detection (0 none, 2 required, 3 installed) + 4 * enforcement; trailing zeros cut.
CREATE TABLE seg_state (
    segment BIGINT NOT NULL,
    client BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    states BYTEA NOT NULL,
    PRIMARY KEY (segment, client)
);
CREATE INDEX seg_state_client ON seg_state (client);

-- The same for clients with only a few states in a segment.
CREATE TABLE sparse_state (
    slot BIGINT NOT NULL,
    client BIGINT NOT NULL,
    state BIGINT NOT NULL,
    PRIMARY KEY (slot, client)
);
CREATE INDEX sparse_state_client ON sparse_state (client);

-- What is required: since when, and which leaves the client requires; one document a client and line:
-- {"<slot>": [instant, leaf set or null], ...}. As rows it would be half of what a scan writes.
CREATE TABLE client_required (
    client BIGINT NOT NULL,
    line BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (client, line)
);

-- The same as rows for what failed, with the error, and for what is `early`: reported before the catalogue had the update,
-- beyond the client's watermark.
CREATE TABLE update_detail (
    slot BIGINT NOT NULL,
    client BIGINT NOT NULL,
    since BIGINT NOT NULL,
    leaf_set BIGINT,
    early BIGINT NOT NULL,
    error TEXT,
    PRIMARY KEY (slot, client)
);
CREATE INDEX update_detail_client ON update_detail (client);

CREATE TABLE leaf_set (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    digest BYTEA NOT NULL,
    leaves TEXT NOT NULL,
    UNIQUE (site, digest)
);

-- States of updates that the catalogue does not have (yet).
CREATE TABLE parked (
    client BIGINT NOT NULL REFERENCES client (id),
    line TEXT NOT NULL,
    source TEXT NOT NULL,
    version TEXT NOT NULL,
    detection BIGINT,
    enforcement BIGINT,
    leaves TEXT,
    error TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (client, line, source, version)
);
CREATE INDEX parked_line ON parked (line);

CREATE TABLE deployment_client (
    uid TEXT NOT NULL,
    client BIGINT NOT NULL REFERENCES client (id),
    enforcement BIGINT,
    compliance BIGINT,
    evaluation BIGINT,
    until BIGINT,
    error TEXT,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (uid, client)
);
CREATE INDEX deployment_client_client ON deployment_client (client);

-- Counts over active clients. scope = slot: state 2 required, 3 installed, 4 reported early, -leaf set who requires just
-- these leaves; scope = -line: state = catalogue version of the watermark. What count_total does not contain yet is in count_delta.
CREATE TABLE count_total (
    scope BIGINT NOT NULL,
    state BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (scope, state)
);

CREATE TABLE count_delta (
    id BIGINT PRIMARY KEY,
    body BYTEA NOT NULL
);

-- The accepted messages, one row a commit: hash = SHA-256 of the previous hash, the number and the body.
CREATE TABLE history (
    site TEXT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (site, number)
);

-- Content.

CREATE TABLE content (
    site TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    url TEXT NOT NULL,
    update_name TEXT NOT NULL,
    state BIGINT NOT NULL,
    message TEXT,
    changed_at BIGINT,
    PRIMARY KEY (site, digest)
);

CREATE TABLE dp_content (
    site TEXT NOT NULL,
    dp TEXT NOT NULL,
    digest TEXT NOT NULL,
    wanted BIGINT NOT NULL,
    present BIGINT NOT NULL,
    message TEXT,
    changed_at BIGINT,
    PRIMARY KEY (site, dp, digest)
);
CREATE INDEX dp_content_digest ON dp_content (site, digest);
