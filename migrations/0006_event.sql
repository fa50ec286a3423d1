-- The append-only log of incidents and actions; its fold is the state. Never expires.
CREATE TABLE IF NOT EXISTS event (
    seq UInt64,
    time DateTime64(9, 'UTC'),
    incident String,
    kind LowCardinality(String),
    actor String,
    reason String,
    body String COMMENT 'JSON',
    written DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC')
) ENGINE = MergeTree
ORDER BY seq
