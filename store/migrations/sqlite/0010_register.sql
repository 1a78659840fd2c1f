-- The register: what the plan says, as rows for reports. The leader keeps it after each compilation; nothing is decided by
-- it. `content` and `members` (`targets`) are digests of what was written: equal ones are not written again; '' where a
-- write was not finished, or something that a row names went. Numbers of objects are never given twice.

CREATE TABLE register (
    site TEXT PRIMARY KEY NOT NULL,
    revision INTEGER NOT NULL
);

CREATE TABLE register_number (
    id INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
);
INSERT INTO register_number (id, last) VALUES (1, 0);

CREATE TABLE collection (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    parent TEXT,
    created INTEGER NOT NULL,
    content TEXT NOT NULL,
    members TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE collection_member (
    collection INTEGER NOT NULL,
    client INTEGER NOT NULL,
    PRIMARY KEY (collection, client)
) WITHOUT ROWID;
CREATE INDEX collection_member_client ON collection_member (client);

CREATE TABLE update_list (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    folder TEXT,
    generation INTEGER NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE update_list_member (
    list INTEGER NOT NULL,
    update_id INTEGER NOT NULL,
    PRIMARY KEY (list, update_id)
) WITHOUT ROWID;
CREATE INDEX update_list_member_update ON update_list_member (update_id);

-- Instants; where `local_time` is 1 civil times, read as if they were UTC. Flags are 0 or 1; `settings` is the whole document.
CREATE TABLE deployment (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    collection INTEGER,
    include_subcollections INTEGER NOT NULL,
    available INTEGER,
    deadline INTEGER,
    local_time INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    required INTEGER NOT NULL,
    install_outside_windows INTEGER NOT NULL,
    restart_outside_windows INTEGER NOT NULL,
    suppress_restart_servers INTEGER NOT NULL,
    suppress_restart_workstations INTEGER NOT NULL,
    display_notifications INTEGER NOT NULL,
    disable_alerts INTEGER NOT NULL,
    alert_on_failure INTEGER NOT NULL,
    wake_on_lan INTEGER NOT NULL,
    settings TEXT NOT NULL,
    generation INTEGER NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    content TEXT NOT NULL,
    targets TEXT NOT NULL,
    UNIQUE (uid),
    UNIQUE (site, name)
);

CREATE TABLE deployment_target (
    deployment INTEGER NOT NULL,
    client INTEGER NOT NULL,
    PRIMARY KEY (deployment, client)
) WITHOUT ROWID;
CREATE INDEX deployment_target_client ON deployment_target (client);

CREATE TABLE deployment_update (
    deployment INTEGER NOT NULL,
    update_id INTEGER NOT NULL,
    PRIMARY KEY (deployment, update_id)
) WITHOUT ROWID;
CREATE INDEX deployment_update_update ON deployment_update (update_id);

CREATE TABLE deployment_list (
    deployment INTEGER NOT NULL,
    list INTEGER NOT NULL,
    PRIMARY KEY (deployment, list)
) WITHOUT ROWID;

-- `kind`: 1 everything that is deployed, 3 restarts alone, 4 software updates. `start`: when it opens first, or would, its
-- civil time read as UTC; `duration` in minutes; `recurrence`: 1 once, 2 daily, 3 weekly, 4 monthly by weekday, 5 monthly by
-- date, 6 monthly by weekday with offset; `zone`: `UTC`, `ClientLocal` or an IANA name; days are instants of their midnight.
CREATE TABLE service_window (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    collection INTEGER,
    kind INTEGER NOT NULL,
    deny INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    start INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    recurrence INTEGER NOT NULL,
    zone TEXT NOT NULL,
    schedule TEXT NOT NULL,
    effective_from INTEGER,
    effective_until INTEGER,
    content TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE package (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE package_update (
    package INTEGER NOT NULL,
    update_id INTEGER NOT NULL,
    PRIMARY KEY (package, update_id)
) WITHOUT ROWID;
CREATE INDEX package_update_update ON package_update (update_id);

-- Files of a package, by digest; sizes are in `content`.
CREATE TABLE package_file (
    package INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (package, digest)
) WITHOUT ROWID;

-- Distribution points of a package, by name.
CREATE TABLE package_point (
    package INTEGER NOT NULL,
    dp TEXT NOT NULL,
    PRIMARY KEY (package, dp)
) WITHOUT ROWID;
