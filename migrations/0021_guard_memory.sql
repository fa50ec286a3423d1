-- What the detector's guards remember: the newest row is in force, for a detector that starts.
CREATE TABLE IF NOT EXISTS guard_memory (
    saved DateTime64(3, 'UTC') COMMENT 'slot of the schedule',
    state String COMMENT 'JSON' CODEC(ZSTD(1)),
    written DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = MergeTree
PARTITION BY toDate(written)
ORDER BY (saved, written)
TTL toDateTime(written) + toIntervalDay(2)
SETTINGS ttl_only_drop_parts = 1
