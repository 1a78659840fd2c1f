-- Requests of clients for a new certificate, one a client, the newest.
CREATE TABLE renewal (
    client INTEGER PRIMARY KEY REFERENCES client (id),
    csr TEXT NOT NULL,
    requested_at INTEGER NOT NULL
);
