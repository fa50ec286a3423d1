-- What proves an incident, frozen: the first row of an incident counts. Never expires.
CREATE TABLE IF NOT EXISTS evidence (
    incident String,
    tenant IPv6,
    frozen DateTime64(9, 'UTC'),
    from_time DateTime64(9, 'UTC'),
    to_time DateTime64(9, 'UTC'),
    row_count UInt64,
    truncated Bool,
    forms Array(String),
    names Array(String),
    texts Array(String) CODEC(ZSTD(3)),
    sha256s Array(String),
    written DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC')
) ENGINE = MergeTree
ORDER BY (incident, written)
