-- One tenant, protocol, role and service port in one hour: the sum of its rows of service_window.
CREATE TABLE IF NOT EXISTS service_1h (
    start DateTime('UTC') COMMENT 'event time, multiple of 3600 s' CODEC(DoubleDelta, ZSTD(1)),
    tenant IPv6,
    rate UInt32 CODEC(ZSTD(1)),
    ip_proto UInt8 CODEC(ZSTD(1)),
    role UInt8 COMMENT '0 unknown, 1 client, 2 server' CODEC(ZSTD(1)),
    svc_port UInt16 CODEC(ZSTD(1)),
    out_records UInt64 CODEC(T64, ZSTD(1)), in_records UInt64 CODEC(T64, ZSTD(1)),
    out_packets UInt64 CODEC(T64, ZSTD(1)), in_packets UInt64 CODEC(T64, ZSTD(1)),
    out_bytes UInt64 CODEC(T64, ZSTD(1)), in_bytes UInt64 CODEC(T64, ZSTD(1)),
    syn_out UInt64 CODEC(T64, ZSTD(1)), est_out UInt64 CODEC(T64, ZSTD(1)), synack_out UInt64 CODEC(T64, ZSTD(1)), rst_out UInt64 CODEC(T64, ZSTD(1)),
    syn_in UInt64 CODEC(T64, ZSTD(1)), est_in UInt64 CODEC(T64, ZSTD(1)), synack_in UInt64 CODEC(T64, ZSTD(1)), rst_in UInt64 CODEC(T64, ZSTD(1)),
    attempts UInt64 CODEC(T64, ZSTD(1)),
    remotes_level UInt8 COMMENT 'the lowest bits of remotes that are zero, 0: remotes is complete' CODEC(ZSTD(1)),
    remotes Array(UInt64) COMMENT 'hashes of the distinct destinations of the attempts, about 256 at most' CODEC(LZ4),
    roll UInt64 CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (tenant, start, ip_proto, svc_port, role, rate)
SETTINGS ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
