"""What waits comes out as it went in, and its memory goes with it."""

import random
from pathlib import Path

import pytest

from sp_proxy.channel import backlog as backlog_module
from sp_proxy.channel.backlog import Backlog


def anonymous_bytes() -> int:
    """proc(5), RssAnon of this process."""
    status = Path("/proc/self/status").read_text("ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("seed", range(20))
def test_first_in_first_out(seed):
    """Through little memory, so that it is moved and made anew all the time."""
    draw = random.Random(seed)
    steps = [(draw.randbytes(draw.randrange(40)), draw.randrange(40)) for _ in range(300)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog_module, "MIN_BYTES", 64)
        backlog = Backlog()
        expected = b""
        for data, size in steps:
            backlog.append(memoryview(data))
            expected += data
            assert len(backlog) == len(expected)
            assert bool(backlog) == bool(expected)
            if expected:
                with backlog.first(size) as piece:
                    assert piece == expected[:size]
                    gone = len(piece)
                backlog.drop(gone)
                expected = expected[gone:]
        if expected:
            with backlog.first(len(expected)) as piece:
                assert piece == expected


def test_memory_goes_with_what_waited():
    backlog = Backlog()
    piece = random.Random(1).randbytes(1 << 20)
    before = anonymous_bytes()
    for _ in range(40):
        backlog.append(piece)
    assert anonymous_bytes() - before >= 40 << 20
    for _ in range(40):
        backlog.drop(1 << 20)
    assert not backlog
    assert anonymous_bytes() - before < 4 << 20
    backlog.append(b"more")
    backlog.clear()
    backlog.clear()
    assert len(backlog) == 0
