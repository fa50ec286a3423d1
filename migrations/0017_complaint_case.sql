-- Cases of complaints: an append-only log, whose fold are the cases. Of several rows of one seq
-- the first counts. Complaints name people: rows are kept for two years.
CREATE TABLE IF NOT EXISTS complaint_case (
    seq UInt64,
    time DateTime64(9, 'UTC'),
    kind LowCardinality(String) COMMENT 'case_opened, case_joined, case_status',
    case_id String,
    actor String,
    reason String,
    body String COMMENT 'JSON' CODEC(ZSTD(3)),
    written DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY seq
TTL toDateTime(time) + toIntervalDay(730)
SETTINGS ttl_only_drop_parts = 1
