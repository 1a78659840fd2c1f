-- The register: what the plan says, as rows for reports. The leader keeps it after each compilation; nothing is decided by
-- it. `content` and `members` (`targets`) are digests of what was written: equal ones are not written again; '' where a
-- write was not finished, or something that a row names went. Numbers of objects are never given twice.

CREATE TABLE register (
    site TEXT PRIMARY KEY NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE register_number (
    id BIGINT PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO register_number (id, last) VALUES (1, 0);

CREATE TABLE collection (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    parent TEXT,
    created BIGINT NOT NULL,
    content TEXT NOT NULL,
    members TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE collection_member (
    collection BIGINT NOT NULL,
    client BIGINT NOT NULL,
    PRIMARY KEY (collection, client)
);
CREATE INDEX collection_member_client ON collection_member (client);

CREATE TABLE update_list (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    folder TEXT,
    generation BIGINT NOT NULL,
    created BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE update_list_member (
    list BIGINT NOT NULL,
    update_id BIGINT NOT NULL,
    PRIMARY KEY (list, update_id)
);
CREATE INDEX update_list_member_update ON update_list_member (update_id);

-- Instants; where `local_time` is 1 civil times, read as if they were UTC. Flags are 0 or 1; `settings` is the whole document.
CREATE TABLE deployment (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    collection BIGINT,
    include_subcollections BIGINT NOT NULL,
    available BIGINT,
    deadline BIGINT,
    local_time BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    required BIGINT NOT NULL,
    install_outside_windows BIGINT NOT NULL,
    restart_outside_windows BIGINT NOT NULL,
    suppress_restart_servers BIGINT NOT NULL,
    suppress_restart_workstations BIGINT NOT NULL,
    display_notifications BIGINT NOT NULL,
    disable_alerts BIGINT NOT NULL,
    alert_on_failure BIGINT NOT NULL,
    wake_on_lan BIGINT NOT NULL,
    settings TEXT NOT NULL,
    generation BIGINT NOT NULL,
    created BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    content TEXT NOT NULL,
    targets TEXT NOT NULL,
    UNIQUE (uid),
    UNIQUE (site, name)
);

CREATE TABLE deployment_target (
    deployment BIGINT NOT NULL,
    client BIGINT NOT NULL,
    PRIMARY KEY (deployment, client)
);
CREATE INDEX deployment_target_client ON deployment_target (client);

CREATE TABLE deployment_update (
    deployment BIGINT NOT NULL,
    update_id BIGINT NOT NULL,
    PRIMARY KEY (deployment, update_id)
);
CREATE INDEX deployment_update_update ON deployment_update (update_id);

CREATE TABLE deployment_list (
    deployment BIGINT NOT NULL,
    list BIGINT NOT NULL,
    PRIMARY KEY (deployment, list)
);

-- `kind`: 1 everything that is deployed, 3 restarts alone, 4 software updates. `start`: when it opens first, or would, its
-- civil time read as UTC; `duration` in minutes; `recurrence`: 1 once, 2 daily, 3 weekly, 4 monthly by weekday, 5 monthly by
-- date, 6 monthly by weekday with offset; `zone`: `UTC`, `ClientLocal` or an IANA name; days are instants of their midnight.
CREATE TABLE service_window (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    collection BIGINT,
    kind BIGINT NOT NULL,
    deny BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    start BIGINT NOT NULL,
    duration BIGINT NOT NULL,
    recurrence BIGINT NOT NULL,
    zone TEXT NOT NULL,
    schedule TEXT NOT NULL,
    effective_from BIGINT,
    effective_until BIGINT,
    content TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE package (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    description TEXT,
    version BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (site, name)
);

CREATE TABLE package_update (
    package BIGINT NOT NULL,
    update_id BIGINT NOT NULL,
    PRIMARY KEY (package, update_id)
);
CREATE INDEX package_update_update ON package_update (update_id);

-- Files of a package, by digest; sizes are in `content`.
CREATE TABLE package_file (
    package BIGINT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (package, digest)
);

-- Distribution points of a package, by name.
CREATE TABLE package_point (
    package BIGINT NOT NULL,
    dp TEXT NOT NULL,
    PRIMARY KEY (package, dp)
);
