-- Who looked at personal data through the API: one row for the same look by the same token
-- within a few seconds. Kept for 400 days.
CREATE TABLE IF NOT EXISTS read_log (
    time DateTime64(3, 'UTC') COMMENT 'the first look',
    last DateTime64(3, 'UTC'),
    actor String COMMENT 'name of the token',
    role LowCardinality(String),
    operation LowCardinality(String),
    target String COMMENT 'what was asked for',
    count UInt32,
    request String COMMENT 'id of the first request'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (time, actor, operation, target)
TTL toDateTime(time) + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1
