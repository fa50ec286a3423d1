-- Above a bound the hashes of destinations are thinned: only those whose lowest remotes_level bits
-- are zero are kept, and each stands for 2^remotes_level (adaptive sampling, Flajolet 1990).
ALTER TABLE service_window ADD COLUMN IF NOT EXISTS remotes_level UInt8
    COMMENT 'the lowest bits of remotes that are zero, 0: remotes is complete' AFTER attempts
