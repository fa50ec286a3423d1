-- What each rule would have done and what staff said of it: an append-only log, whose fold is the
-- ledger. Repeating a row changes nothing.
CREATE TABLE IF NOT EXISTS ledger (
    time DateTime64(9, 'UTC'),
    kind LowCardinality(String) COMMENT 'case or mark',
    case_id String COMMENT 'rule/tenant/day',
    actor String,
    body String COMMENT 'JSON' CODEC(ZSTD(1)),
    written DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (time, case_id)
TTL toDateTime(time) + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1
