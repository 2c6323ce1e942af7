"""hls4ml optimizer passes, one a file; hls4ml finds and registers them as `hlsgen:<name>`."""
