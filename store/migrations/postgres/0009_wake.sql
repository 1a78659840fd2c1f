-- Magic packets that were sent: for each client and deployment the last occasion at which it was called.
CREATE TABLE client_wake (
    uid TEXT NOT NULL,
    client BIGINT NOT NULL REFERENCES client (id),
    occasion BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    series BIGINT NOT NULL,
    PRIMARY KEY (uid, client)
);
