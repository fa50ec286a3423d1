-- As 0004, with an index mark for 2,048 rows instead of 8,192 and, up to 256 MiB, all columns of a
-- part in one file: what a question opens and unpacks of the other tenants' rows is most of its
-- cost. All 28 columns of four tenants' last ten minutes, 11 parts: 16 ms of the engine's CPU for 44,
-- and in files by column 31 for 51; 4 % more disk; three columns of everybody's rows: 25 ms for 16.
CREATE TABLE IF NOT EXISTS flows (
    time DateTime64(9, 'UTC') COMMENT 'event time: the end of the record' CODEC(Delta, ZSTD(1)),
    start DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    end DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    exporter IPv6,
    tenant IPv6,
    host IPv6 COMMENT 'the internal address itself',
    remote IPv6,
    host_port UInt16,
    remote_port UInt16,
    svc_port UInt16,
    dir UInt8 COMMENT '1 out, 2 in',
    ip_proto UInt8,
    role UInt8 COMMENT '0 unknown, 1 client, 2 server',
    class UInt8 COMMENT '0 other, 1 syn, 2 synack, 3 rst, 4 est, 5 udp, 6 echo, 7 icmp_err, 8 noflags',
    tcp_flags UInt8,
    icmp_type UInt8,
    icmp_code UInt8,
    packets UInt64,
    bytes UInt64,
    ip_len UInt16 COMMENT 'of the sampled packet, 0 unknown',
    ttl UInt8,
    rate UInt32,
    in_if UInt32,
    out_if UInt32,
    src_mac UInt64 COMMENT '48 bits, first byte highest',
    vlan UInt16,
    bogon Bool,
    spoofed Bool,
    batch UInt64 COMMENT 'hash of the token of the insert' CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toStartOfInterval(toDateTime(time), toIntervalHour(6))
ORDER BY (tenant, time)
SETTINGS index_granularity = 2048, min_bytes_for_wide_part = 268435456, min_compress_block_size = 8192,
    non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
