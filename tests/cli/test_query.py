import json

import pytest

from sp_proxy.cli.main import main
from tests.backend.requests import HOSTILE, exchange_span
from tests.cli.backends import holding


@pytest.fixture(scope="module")
def url():
    with holding(
        *(exchange_span(at=at, path=f"/orders/{at}", status=200 + 303 * (at % 2)) for at in range(6)),
        exchange_span(at=9, path=HOSTILE, service="evil"),
    ) as address:
        yield address


def test_lines_newest_first(url, capsys):
    assert main(["query", "path:/orders/*", "status>=500", "--url", url]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split("shop.local:8080")[1].split()[0] for line in out] == ["/orders/5", "/orders/3", "/orders/1"]
    assert "\x1b" not in "".join(out)


def test_as_many_as_wanted_as_json(url, capsys):
    assert main(["query", "--json", "-n", "2", "--url", url]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [each["path"] for each in found] == [HOSTILE, "/orders/5"]


def test_captured_content_is_shown_as_text(url, capsys):
    assert main(["query", "service:evil", "--url", url]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "<script>" in out
    assert "\x00" not in out


def test_nothing_found(url, capsys):
    assert main(["query", "service:nobody", "--url", url]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_wrong_query(url, capsys):
    assert main(["query", "a", "servise:x", "--url", url]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "sp-proxy: column 3: 'servise' is not a field (did you mean service?); to search for it as text, quote it\n"
    )


def test_a_token(capsys):
    with holding(exchange_span(), token="secret") as address:
        assert main(["query", "--url", address]) == 1
        assert "the token is missing or wrong" in capsys.readouterr().err
        assert main(["query", "--url", address, "--set", "backend.token=secret"]) == 0


def test_the_address_is_that_of_the_settings(url, capsys):
    port = url.rpartition(":")[2]
    assert main(["query", "-n", "1", "--set", f"backend.listen=0.0.0.0:{port}", "--set", "backend.token=x"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
