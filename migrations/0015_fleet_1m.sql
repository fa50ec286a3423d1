-- All tenants together in one minute: the sum of service_window, and how many tenants there were.
CREATE TABLE IF NOT EXISTS fleet_1m (
    start DateTime('UTC') COMMENT 'event time, multiple of 60 s' CODEC(DoubleDelta, ZSTD(1)),
    rate UInt32 CODEC(ZSTD(1)),
    out_records UInt64 CODEC(T64, ZSTD(1)), in_records UInt64 CODEC(T64, ZSTD(1)),
    out_packets UInt64 CODEC(T64, ZSTD(1)), in_packets UInt64 CODEC(T64, ZSTD(1)),
    out_bytes UInt64 CODEC(T64, ZSTD(1)), in_bytes UInt64 CODEC(T64, ZSTD(1)),
    syn_out UInt64 CODEC(T64, ZSTD(1)), synack_in UInt64 CODEC(T64, ZSTD(1)),
    attempts UInt64 CODEC(T64, ZSTD(1)),
    tenants UInt32 COMMENT 'distinct tenants at this rate' CODEC(ZSTD(1)),
    roll UInt64 CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (start, rate)
SETTINGS ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
