-- One tenant and one remote address in one window; only pairs above a floor are stored.
CREATE TABLE IF NOT EXISTS pair_window (
    start DateTime('UTC') COMMENT 'event time, multiple of 10 s' CODEC(DoubleDelta, LZ4),
    tenant IPv6,
    rate UInt32,
    remote IPv6,
    ip_proto UInt8,
    out_records UInt64, in_records UInt64,
    out_packets UInt64, in_packets UInt64,
    out_bytes UInt64, in_bytes UInt64,
    syn_out UInt64, est_out UInt64, synack_out UInt64, rst_out UInt64,
    syn_in UInt64, est_in UInt64, synack_in UInt64, rst_in UInt64,
    raw_syn UInt64 COMMENT 'of syn_out: IP length <= 44 or TTL > 128',
    no_flags UInt64,
    syn_packets UInt64, est_out_packets UInt64, rst_in_packets UInt64,
    ports Array(UInt16) COMMENT 'distinct remote ports of outgoing SYNs in this row',
    batch UInt64 COMMENT 'hash of the token of the insert' CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toDate(start)
ORDER BY (start, tenant, remote, ip_proto)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
