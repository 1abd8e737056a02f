"""The scoring server: plans are scored for other processes, and its client."""
