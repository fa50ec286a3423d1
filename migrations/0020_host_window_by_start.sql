-- The tenants with the most traffic of the last minutes: the key begins with the tenant, so that
-- a few windows of all are every mark of a part.
ALTER TABLE host_window ADD PROJECTION IF NOT EXISTS by_start
    (SELECT start, tenant, rate, out_records, out_packets, in_packets, out_bytes, in_bytes, syn_out ORDER BY start, tenant)
