"""What sp_proxy says of itself: whether it is ready, and the books of its records.

A figure for capture is worth nothing when less was captured than was asked for: this is looked at after every run.
"""

import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError

SETTLE_SECONDS = 60.0
"""What the exporter may need for the records of one run."""
STEADY_SECONDS = 1.5
"""Above the second between two reports of a worker."""
_LOSSES = ("rejected", "dropped", "shed")
_SAMPLE = re.compile(r"(?P<family>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


@dataclass(frozen=True, slots=True)
class Books:
    """Records since the start."""

    captured: float = 0
    """In the workers."""
    decided: float = 0
    """Accepted by the sink or lost."""
    lost: tuple[tuple[str, float], ...] = ()
    """By reason."""


def read_books(text: str) -> Books:
    """From the text of ``/metrics``."""
    captured = accepted = 0.0
    lost: dict[str, float] = {}
    for sample in filter(None, map(_SAMPLE.fullmatch, text.splitlines())):
        family, value = sample["family"], float(sample["value"])
        if family == "sp_proxy_worker_captured_total":
            captured += value
        elif family == "sp_proxy_records_accepted_total":
            accepted += value
        elif family in {f"sp_proxy_records_{how}_total" for how in _LOSSES} | {
            "sp_proxy_channel_records_dropped_total"
        }:
            reason = re.search(r'reason="([^"]*)"', sample["labels"] or "")
            name = reason[1] if reason else "without a reason"
            lost[name] = lost.get(name, 0) + value
    return Books(captured, accepted + sum(lost.values()), tuple(sorted(lost.items())))


def settle(admin: int) -> Books:
    """Wait until every record is decided. Raises BenchmarkError when that does not happen.

    Workers report once a second, and until then what they captured last is not in the books: these must have been the
    same for longer than that.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    before, since = None, time.monotonic()
    while (now := time.monotonic()) < deadline:
        books = read_books(_get(admin, "/metrics"))
        if books != before:
            before, since = books, now
        elif books.captured <= books.decided and now - since > STEADY_SECONDS:
            return books
        time.sleep(0.5)  # each look costs the daemon some milliseconds, which are in the count
    raise BenchmarkError(f"records were still waiting after {SETTLE_SECONDS:g} s")


def ready(admin: int) -> bool:
    """Whether its admin server says so."""
    try:
        _get(admin, "/healthz/ready")
    except OSError:
        return False
    return True


def bytes_read(pid: int) -> int:
    """By read(2) and its kin, of a process (proc(5), io)."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise BenchmarkError("this kernel does not count what a process reads")


def _get(admin: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=5) as answer:
        return str(answer.read().decode())
