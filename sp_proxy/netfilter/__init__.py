"""Redirect rules: settings to rule values (pure), their writers for nftables and iptables, and their checks."""
