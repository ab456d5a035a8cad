"""Exchanges for other programs: HAR, command lines, OTLP-JSON, lines of JSON."""
