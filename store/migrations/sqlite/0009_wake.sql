-- Magic packets that were sent: for each client and deployment the last occasion at which it was called.
CREATE TABLE client_wake (
    uid TEXT NOT NULL,
    client INTEGER NOT NULL REFERENCES client (id),
    occasion INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    times INTEGER NOT NULL,
    series INTEGER NOT NULL,
    PRIMARY KEY (uid, client)
) WITHOUT ROWID;
