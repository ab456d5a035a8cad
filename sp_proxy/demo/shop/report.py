"""What the shop's processes tell the demo about the calls they make: one JSON line each, on standard output.

It is the demo's own count of what was sent, independent of everything that captures. A line is written when the answer
has been read, and before the caller answers in its turn: when the customers have their answers, everything is written.
"""

import json
import sys
import threading
from dataclasses import asdict, dataclass

CUSTOMERS = "customers"
"""The caller's name of those who are outside the shop."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was sent. ``status`` is 0 when there was no answer."""

    source: str
    to: str
    method: str
    target: str
    status: int


_writing = threading.Lock()


def write(call: Call) -> None:
    """Report a call; from any thread."""
    line = json.dumps(asdict(call), separators=(",", ":")) + "\n"
    with _writing:
        sys.stdout.write(line)
        sys.stdout.flush()


def parse(line: str) -> Call | None:
    """The call that a line reports; None for a line of another kind (an interpreter's warning)."""
    try:
        value = json.loads(line)
        return Call(
            str(value["source"]), str(value["to"]), str(value["method"]), str(value["target"]), int(value["status"])
        )
    except (ValueError, TypeError, KeyError):
        return None
