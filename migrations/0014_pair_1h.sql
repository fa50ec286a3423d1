-- One tenant, remote address and protocol in one hour: the sum of its rows of pair_window. Complaints
-- ask for one tenant and one remote.
CREATE TABLE IF NOT EXISTS pair_1h (
    start DateTime('UTC') COMMENT 'event time, multiple of 3600 s' CODEC(DoubleDelta, ZSTD(1)),
    tenant IPv6,
    rate UInt32 CODEC(ZSTD(1)),
    remote IPv6 CODEC(ZSTD(1)),
    ip_proto UInt8 CODEC(ZSTD(1)),
    first DateTime('UTC') COMMENT 'start of the first window' CODEC(ZSTD(1)),
    last DateTime('UTC') COMMENT 'start of the last window' CODEC(ZSTD(1)),
    out_records UInt64 CODEC(T64, ZSTD(1)), in_records UInt64 CODEC(T64, ZSTD(1)),
    out_packets UInt64 CODEC(T64, ZSTD(1)), in_packets UInt64 CODEC(T64, ZSTD(1)),
    out_bytes UInt64 CODEC(T64, ZSTD(1)), in_bytes UInt64 CODEC(T64, ZSTD(1)),
    syn_out UInt64 CODEC(T64, ZSTD(1)), est_out UInt64 CODEC(T64, ZSTD(1)), synack_in UInt64 CODEC(T64, ZSTD(1)), rst_in UInt64 CODEC(T64, ZSTD(1)),
    ports Array(UInt16) COMMENT 'distinct remote ports of outgoing SYNs, 64 at most' CODEC(ZSTD(1)),
    roll UInt64 CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (tenant, remote, start, ip_proto, rate)
SETTINGS ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
