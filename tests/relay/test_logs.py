"""What a relay worker says is a line like all others."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.log_limit import BURST
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.relay import logs
from sp_proxy.relay.config import ListenerConfig, WorkerConfig, encode_config


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_with_an_exception_on_one_line():
    out = io.StringIO()
    logs.configure(3, "auto", out)
    log = logging.getLogger("x")
    log.info("not worth a line")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed %s", "here")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["process"], line["worker"]) == ("failed here", "error", "relay", 3)
    assert "ValueError: broken" in str(line["exception"])
    assert str(line["timestamp"]).endswith("Z")


def test_text_for_people():
    out = io.StringIO()
    logs.configure(3, "console", out)
    logging.getLogger("x").warning("odd")
    assert "[WARNING] relay worker 3: odd" in out.getvalue()


def test_what_comes_too_often_is_left_out():
    out = io.StringIO()
    logs.configure(0, "json", out)
    for number in range(BURST + 50):
        logging.getLogger("x").warning("again %s", number)
    assert BURST <= len(lines(out)) <= BURST + 5


def test_what_ends_a_worker_is_a_line_too():
    out = io.StringIO()
    logs.configure(1, "json", out)
    error = ZeroDivisionError("fatal")
    sys.excepthook(ZeroDivisionError, error, None)
    (line,) = lines(out)
    assert (line["event"], line["level"]) == ("worker_failed", "critical")
    assert "ZeroDivisionError: fatal" in str(line["exception"])


def test_a_worker_that_cannot_start_says_so_in_a_line():
    """As the supervisor starts it: all on standard error is lines of the log."""
    reader, writer = os.pipe()
    config = WorkerConfig(7, 0, (ListenerConfig(10_000, Direction.INBOUND),), HeaderConfig("x"), PolicyConfig())
    os.write(writer, encode_config(config))
    os.close(writer)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sp_proxy.relay", str(reader)],
        pass_fds=(reader,),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(reader)
    assert done.returncode != 0
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["event"], line["worker"]) == ("worker_failed", 7)
