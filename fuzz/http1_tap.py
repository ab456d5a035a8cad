"""Coverage-guided fuzzing of the HTTP/1.x tap (atheris, libFuzzer): ``make fuzz``, or ``python -m fuzz.http1_tap DIRECTORY…``.

The arguments are libFuzzer's. An input that breaks a rule is written to the artifact prefix; put it into
``fuzz/corpus/http1`` with a name that says what it was, and it is tried by every run of the tests.
"""

import sys

import atheris

with atheris.instrument_imports(include=["sp_proxy.taps", "sp_proxy.core", "fuzz.http1_conversation"]):
    from fuzz.http1_conversation import check

if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
