"""Captured requests sent again, and their answers compared with the recorded ones."""
