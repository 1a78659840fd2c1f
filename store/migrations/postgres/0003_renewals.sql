-- Requests of clients for a new certificate, one a client, the newest.
CREATE TABLE renewal (
    client BIGINT PRIMARY KEY REFERENCES client (id),
    csr TEXT NOT NULL,
    requested_at BIGINT NOT NULL
);
