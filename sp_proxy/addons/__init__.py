"""Operators' scripts: hooks on captured exchanges and on request heads, kept away from what they could harm."""
