-- One tenant in one minute: the sum of its rows of host_window.
CREATE TABLE IF NOT EXISTS host_1m (
    start DateTime('UTC') COMMENT 'event time, multiple of 60 s' CODEC(DoubleDelta, ZSTD(1)),
    tenant IPv6,
    rate UInt32 COMMENT 'sampling rate 1:N of the counters, which are not scaled' CODEC(ZSTD(1)),
    windows UInt32 COMMENT 'rows of host_window' CODEC(ZSTD(1)),
    out_records UInt64 CODEC(T64, ZSTD(1)), in_records UInt64 CODEC(T64, ZSTD(1)),
    out_packets UInt64 CODEC(T64, ZSTD(1)), in_packets UInt64 CODEC(T64, ZSTD(1)),
    out_bytes UInt64 CODEC(T64, ZSTD(1)), in_bytes UInt64 CODEC(T64, ZSTD(1)),
    syn_out UInt64 CODEC(T64, ZSTD(1)), est_out UInt64 CODEC(T64, ZSTD(1)), synack_out UInt64 CODEC(T64, ZSTD(1)), rst_out UInt64 CODEC(T64, ZSTD(1)),
    syn_in UInt64 CODEC(T64, ZSTD(1)), est_in UInt64 CODEC(T64, ZSTD(1)), synack_in UInt64 CODEC(T64, ZSTD(1)), rst_in UInt64 CODEC(T64, ZSTD(1)),
    udp_out_packets UInt64 CODEC(T64, ZSTD(1)), icmp_out_packets UInt64 CODEC(T64, ZSTD(1)),
    bogon_out UInt64 CODEC(T64, ZSTD(1)), spoof_out UInt64 CODEC(T64, ZSTD(1)),
    attempts UInt64 COMMENT 'of service_window' CODEC(T64, ZSTD(1)),
    roll UInt64 COMMENT 'of table rollup' CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toMonday(start)
ORDER BY (tenant, start, rate)
SETTINGS ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
