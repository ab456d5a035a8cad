"""What a log line looks like."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from pydantic import SecretStr

from sp_proxy import logs
from sp_proxy.core.log_limit import BURST


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_lines_with_utc_timestamps():
    out = io.StringIO()
    logs.configure("info", "json", out, process="worker")
    structlog.get_logger("x").info("worker_ready", worker=1)
    (line,) = lines(out)
    at = datetime.fromisoformat(str(line.pop("timestamp")))
    assert line == {"event": "worker_ready", "level": "info", "worker": 1, "process": "worker"}
    assert at.tzinfo is not None
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


@pytest.mark.parametrize("level, written", [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_least_severe_one_written(level, written):
    out = io.StringIO()
    logs.configure(level, "json", out)
    log = structlog.get_logger()
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert len(lines(out)) == written


def test_an_exception_is_one_line_of_json():
    out = io.StringIO()
    logs.configure("info", "json", out)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(out)
    assert "ValueError: broken" in str(line["exception"])


def test_auto_is_console_on_a_terminal_and_json_elsewhere():
    terminal, pipe = Terminal(), io.StringIO()
    logs.configure("info", "auto", terminal)
    structlog.get_logger().info("hello")
    logs.configure("info", "auto", pipe)
    structlog.get_logger().info("hello")
    assert "hello" in terminal.getvalue()
    assert "{" not in terminal.getvalue()
    assert lines(pipe)[0]["event"] == "hello"


def test_console_without_a_terminal_has_no_colours():
    out = io.StringIO()
    logs.configure("info", "console", out)
    structlog.get_logger().info("hello", key="value")
    assert "\x1b" not in out.getvalue()
    assert "key=value" in out.getvalue()


def test_the_standard_librarys_logging_goes_the_same_way_from_warnings_on():
    out = io.StringIO()
    logs.configure("debug", "json", out, process="supervisor")
    logging.getLogger("hypercorn.error").info("Running on http://127.0.0.1")
    logging.getLogger("hypercorn.error").warning("odd: %s", "x")
    (line,) = lines(out)
    assert line["event"] == "odd: x"
    assert line["level"] == "warning"
    assert line["process"] == "supervisor"


def test_what_comes_too_often_is_left_out_and_counted(monkeypatch):
    now = [0]
    monkeypatch.setattr("sp_proxy.logs.time.monotonic_ns", lambda: now[0])
    out = io.StringIO()
    logs.configure("info", "json", out)
    log = structlog.get_logger()
    for _ in range(BURST + 7):
        log.error("accept_failed")
        logging.getLogger("library").warning("odd %s", now[0])
    log.error("other")
    written = [line["event"] for line in lines(out)]
    assert written.count("accept_failed") == written.count("odd 0") == BURST
    assert "other" in written
    now[0] += 2_000_000_000
    log.error("accept_failed")
    logging.getLogger("library").warning("odd %s", 1)
    assert lines(out)[-2]["suppressed"] == 7
    assert lines(out)[-1]["event"] == "odd 1 (7 more like it were left out)"


def test_names_and_passwords_in_urls_are_masked_wherever_they_stand():
    out = io.StringIO()
    logs.configure("info", "json", out)
    url = "https://user:hunter2@backend.example/v1"
    structlog.get_logger().warning("failed", url=url, more=[url, {"at": f"see {url}"}], secret=SecretStr("hunter2"))
    logging.getLogger("library").warning("cannot reach %s", url)
    try:
        raise ValueError(url)
    except ValueError:
        structlog.get_logger().exception("broken")
    assert "hunter2" not in out.getvalue()
    assert lines(out)[0]["url"] == "https://***@backend.example/v1"
