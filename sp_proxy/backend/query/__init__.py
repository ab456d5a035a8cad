"""The query language for exchanges: one for the API, the page and the command line (docs/backend.md)."""
