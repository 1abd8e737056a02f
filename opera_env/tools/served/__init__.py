"""Tools in other processes: a server, whose one file runs in any environment, and its client."""
