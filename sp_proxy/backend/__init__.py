"""The embedded backend: OTLP intake, SQLite store, JSON API and one page."""
