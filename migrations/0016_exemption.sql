-- Exemptions that people make while the service runs, and how often each was needed: an
-- append-only log, whose fold are the exemptions. Of several rows of one seq the first counts.
-- Never expires.
CREATE TABLE IF NOT EXISTS exemption (
    seq UInt64,
    time DateTime64(9, 'UTC'),
    kind LowCardinality(String) COMMENT 'exemption_created, exemption_changed, exemption_removed, exemption_hits',
    exemption String COMMENT 'its id',
    actor String,
    reason String,
    body String COMMENT 'JSON',
    written DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC')
) ENGINE = MergeTree
ORDER BY seq
