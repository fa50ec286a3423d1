-- One tenant, protocol, role and service port in one window. The key begins with time because
-- the detector asks for a few minutes of all tenants.
CREATE TABLE IF NOT EXISTS service_window (
    start DateTime('UTC') COMMENT 'event time, multiple of 10 s' CODEC(DoubleDelta, LZ4),
    tenant IPv6,
    rate UInt32,
    ip_proto UInt8,
    role UInt8 COMMENT '0 unknown, 1 client, 2 server',
    svc_port UInt16,
    out_records UInt64, in_records UInt64,
    out_packets UInt64, in_packets UInt64,
    out_bytes UInt64, in_bytes UInt64,
    syn_out UInt64, est_out UInt64, synack_out UInt64, rst_out UInt64,
    syn_in UInt64, est_in UInt64, synack_in UInt64, rst_in UInt64,
    raw_syn UInt64 COMMENT 'of syn_out: IP length <= 44 or TTL > 128',
    no_flags UInt64,
    attempts UInt64 COMMENT 'outgoing SYN, UDP as a client, ICMP echo, no bogons, no spoofed sources',
    remotes Array(UInt64) COMMENT 'hashes of the distinct destinations of the attempts in this row' CODEC(LZ4),
    batch UInt64 COMMENT 'hash of the token of the insert' CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toDate(start)
ORDER BY (start, tenant, ip_proto, svc_port, role)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
