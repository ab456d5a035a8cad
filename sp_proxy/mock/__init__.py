"""Captured answers given again, to calls like those that they answered."""
