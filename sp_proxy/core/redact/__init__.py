"""Redaction by rules and detectors: what of an exchange may leave this machine, decided before it is encoded.

Pure, as all of ``core``: the engine for regular expressions is passed in (``engine.py``). ``redactor.py`` is what the
rest of the program sees.
"""
