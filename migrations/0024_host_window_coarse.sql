-- As 0022: 0025 has a finer index.
RENAME TABLE IF EXISTS host_window TO host_window_coarse
