-- Verdicts of the rules, one row a finding, kept for 180 days after they were written (a replay
-- of an old capture has event times long past).
CREATE TABLE IF NOT EXISTS finding (
    time DateTime64(9, 'UTC') COMMENT 'slot of the schedule, event time',
    tenant IPv6,
    rule LowCardinality(String),
    tier LowCardinality(String),
    ip_proto UInt8,
    port UInt16,
    remote IPv6 COMMENT ':: if none',
    window_s UInt32,
    samples UInt64,
    distinct_remotes UInt64,
    sampling_rate Float64,
    score Float64,
    threshold Float64,
    est_rate Float64,
    reason String,
    gates Array(String),
    from_time DateTime64(9, 'UTC'),
    to_time DateTime64(9, 'UTC'),
    rule_version Int64,
    config_hash String,
    written DateTime('UTC') DEFAULT now('UTC')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(written)
ORDER BY (tenant, time)
TTL written + toIntervalDay(180)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1
