"""Sans-IO protocol watchers: bytes go in, bytes to forward and finished exchanges come out."""
