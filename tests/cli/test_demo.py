"""``sp-proxy demo``'s command line; what it runs is tested in ``tests/e2e/test_demo.py``."""

import pytest

from sp_proxy.cli.main import main
from sp_proxy.demo import run
from sp_proxy.demo.errors import DemoError
from sp_proxy.demo.run import Options


@pytest.mark.parametrize(
    "words, options",
    [
        ([], Options()),
        (["--once", "--requests", "7"], Options(requests=7, once=True)),
        (["--keep-running", "--port", "5000", "--forward"], Options(port=5000, forward=True)),
    ],
)
def test_options(words, options, monkeypatch):
    given = []

    def note(options: Options, _console: object) -> int:
        given.append(options)
        return 3

    monkeypatch.setattr(run, "run", note)
    assert main(["demo", *words]) == 3
    assert given == [options]


@pytest.mark.parametrize("words", [["--requests", "0"], ["--port", "0"], ["--port", "x"], ["--nope"], ["extra"]])
def test_wrong_usage_is_one_line(words, capsys):
    assert main(["demo", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_stops_it_is_one_line(monkeypatch, capsys):
    def fail(_options: object, _console: object) -> int:
        raise DemoError("ip not found: apt-get install iproute2, or use --forward")

    monkeypatch.setattr(run, "run", fail)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "sp-proxy: ip not found: apt-get install iproute2, or use --forward\n"
