import json
from typing import get_args

import pytest
from msgspec import structs

from sp_proxy.cli.asking import duration, exchange_line, moment, size, status_style
from sp_proxy.cli.main import main
from sp_proxy.core.exchange import ErrorType
from tests.backend.requests import HOSTILE
from tests.backend.serving import listener
from tests.backend.test_model import SUMMARY


def line(**values):
    return exchange_line(structs.asdict(structs.replace(SUMMARY, **values))).plain


def test_a_line():
    assert line(start_unix_ns=0, duration_ns=12_345_678, response_size=2048)[12:] == (
        "  204 GET    orders <- shop/api/Orders?id=7  12.3ms  2.0KiB"
    )
    assert " orders -> payment " in line(direction="outbound", peer="payment")
    assert " reset GET" in line(status=0, error="reset")
    assert "goes on" in line(partial=True)
    for error in filter(None, get_args(ErrorType)):
        assert f" {error} GET" in line(status=0, error=error)
    assert f" {'x' * 20} GET" in line(status=0, error="x" * 1000)
    assert "\n" not in line(path=HOSTILE, host=HOSTILE, service=HOSTILE, error=HOSTILE, status=0, method=HOSTILE)


@pytest.mark.parametrize(
    "values, style",
    [
        ({"status": 200}, "green"),
        ({"status": 404}, "yellow"),
        ({"status": 404, "failed": True}, "bold red"),
        ({"status": 500}, "bold red"),
        ({"status": 0}, "bold red"),
        ({"status": 101}, ""),
    ],
)
def test_colours(values, style):
    assert status_style({"failed": False, **values}) == style


@pytest.mark.parametrize(
    "nanoseconds, text",
    [(0, "0ns"), (999, "999ns"), (1500, "1.5µs"), (12_345_678, "12.3ms"), (2_000_000_000, "2s"), (5 * 10**12, "5000s")],
)
def test_durations(nanoseconds, text):
    assert duration(nanoseconds) == text


def test_sizes_and_moments():
    assert [size(count) for count in (0, 1023, 1024, 5 << 20, 3 << 30)] == ["0B", "1023B", "1.0KiB", "5.0MiB", "3.0GiB"]
    assert moment(1_700_000_000_123_000_000)[-4:] == ".123"
    assert moment(2**63 - 1)


@pytest.mark.parametrize("command", [["query"], ["show", "ab" * 8], ["tail"], ["backend", "export"]])
def test_nobody_answers(command, capsys):
    sock = listener()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    assert main([*command, "--url", url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sp-proxy: {url}: nobody answers (")
    assert err.count("\n") == 1


def test_a_url_that_is_none(capsys):
    assert main(["query", "--url", "localhost:1"]) == 2
    assert capsys.readouterr().err == "sp-proxy: --url: found 'localhost:1'; allowed: http:// or https:// and a host\n"


def test_the_line_of_the_api_is_what_is_shown():
    assert json.loads(json.dumps(structs.asdict(SUMMARY)))["path"] in line()
