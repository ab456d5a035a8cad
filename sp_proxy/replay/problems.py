"""What is wrong with what a person asked for, in one line."""


class ReplayError(Exception):
    """It cannot be done as it was asked for: one line for a person."""
