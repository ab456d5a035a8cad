"""Pure policy: no I/O, no clock, no randomness, no logging.

Everything here is a function or a small state machine over values. Times and new identifiers come in as
arguments. Only the standard library and ``msgspec`` may be imported (``tests/test_architecture.py`` checks it).
"""
