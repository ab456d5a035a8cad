"""The embedded engine: one SQLite file in WAL mode, one writer at a time, readers apart."""
