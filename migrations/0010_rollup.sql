-- Which hours the rollups hold: a row when the work on an hour begins and one when it is done. The
-- done roll with the greatest id is in force; rows of any other roll are not there for readers.
-- So an hour changes at once, and work that was cut off, or done twice, counts once. Never expires.
CREATE TABLE IF NOT EXISTS rollup (
    slot DateTime('UTC') COMMENT 'the hour, event time',
    roll UInt64 COMMENT 'microseconds since 1970 when the work began',
    done Bool,
    host_rows UInt64 COMMENT 'rows of host_window that were summed',
    service_rows UInt64,
    pair_rows UInt64,
    written DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = MergeTree
ORDER BY (slot, roll)
