import json
import re
from xml.etree.ElementTree import fromstring

import pytest

from sp_proxy.cli.main import main
from tests.backend.requests import HOSTILE, exchange_span
from tests.cli.backends import holding
from tests.replay.origins import Given, Got, origin

JSON = {"http.request.header.content-type": "application/json"}
CARD = "4111111111111111"


@pytest.fixture(scope="module")
def backend():
    with holding(
        exchange_span(at=1, path="/same", span=b"\x01" * 8),
        exchange_span(at=2, path="/changed", response_body='{"price":1,"card":"[REDACTED]"}', span=b"\x02" * 8),
        exchange_span(at=3, path="/ordered", method="POST", request_body='{"a":1}', session="s2", more=JSON),
        exchange_span(at=4, path="/secret", session="s3", more={"http.request.header.x-api-key": "[REDACTED]"}),
        exchange_span(at=5, path="/x", response_body=HOSTILE, session="s4", service="evil"),
        exchange_span(
            at=6,
            path="/cut",
            session="s5",
            request_body="ab",
            more=JSON | {"http.request.body.size": 9, "sp.body.truncated": True},
        ),
    ) as url:
        yield url


@pytest.fixture(scope="module")
def target():
    def answer(got: Got) -> Given:
        if got.target == "/changed":
            return 200, {"content-type": "application/json"}, json.dumps({"price": 2, "card": CARD}).encode()
        if got.target == "/x":
            return 200, {"content-type": "application/json"}, b"\x1b[31m<script>"
        status = 401 if got.target == "/secret" and got.header("x-api-key") != "k" else 200
        return status, {"content-type": "application/json"}, b'{"ok":true}'

    with origin(answer) as there:
        yield there


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["replay", "--fast", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_no_difference(backend, target, capsys):
    code, out, err = run(capsys, "path:/same", "--to", target.url, "--url", backend)
    assert (code, err) == (0, "")
    assert out == "1 sent, 1 as recorded, 0 different, 0 not sent\n"


def test_differences_are_told_and_written(backend, target, capsys, tmp_path):
    junit, page = tmp_path / "r.xml", tmp_path / "r.html"
    words = ["service:orders", "--to", target.url, "--url", backend, "--junit", str(junit), "--html", str(page)]
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert re.search(r"0202020202020202 +GET /changed +\$\.price +1 +2 *\n", out)
    assert "1 x POST may change something: sent with --unsafe only" in out
    assert "1 x its body was captured in part (2 of 9 bytes)" in out
    assert "1 x redacted: the field x-api-key (--secret header:x-api-key=env:NAME)" in out
    assert out.endswith("2 sent, 1 as recorded, 1 different, 3 not sent\n")
    assert fromstring(junit.read_bytes()).attrib["failures"] == "1"
    assert "$.price" in page.read_text()
    for text in (out, junit.read_text(), page.read_text()):
        assert CARD not in text  # the new answer is redacted as the recorded one was


def test_rules_and_secrets(backend, target, capsys, tmp_path, monkeypatch):
    rules = tmp_path / "rules.yaml"
    rules.write_text("where: [{path: /changed, ignore: [$.price]}]\n")
    monkeypatch.setenv("KEY", "k")
    words = [
        "service:orders",
        "not path:/cut",
        "--unsafe",
        "--rules",
        str(rules),
        "--secret",
        "header:x-api-key=env:KEY",
    ]
    code, out, _ = run(capsys, *words, "--to", target.url, "--url", backend)
    assert (code, out) == (0, "4 sent, 4 as recorded, 0 different, 0 not sent\n")
    posted = next(each for each in reversed(target.got) if each.method == "POST")
    assert posted.body == b'{"a":1}'


def test_hostile_content_does_not_reach_the_terminal(backend, target, capsys):
    code, out, _ = run(capsys, "service:evil", "--to", target.url, "--url", backend)
    assert code == 1
    assert "\x1b" not in out
    assert "<script>" in out


def test_a_mixture_is_warned_of_and_a_limit_told(backend, target, capsys):
    _, _, err = run(capsys, "path:/same or path:/x", "--to", target.url, "--url", backend)
    assert "they are of several (evil inbound, orders inbound)" in err
    _, out, err = run(capsys, "service:orders", "-n", "1", "--to", target.url, "--url", backend)
    assert "there are more than 1: the newest are taken" in err
    assert "0 sent, 0 as recorded, 0 different, 1 not sent" in out


@pytest.mark.parametrize(
    "words, problem",
    [
        (["--to", "nowhere"], "--to: found 'nowhere'; allowed: http://"),
        (["--to", "http://a", "--ignore", "a b"], "ignore: found 'a b'"),
        (["--to", "http://a", "--secret", "x"], "--secret: found 'x'"),
        (["--to", "http://a", "--rules", "/nowhere.toml"], "/nowhere.toml: cannot be read (no such file"),
        (["--to", "http://a", "servise:x"], "'servise' is not a field"),
        (["--to", "http://a", "service:nobody"], "nothing was captured that fits"),
        (["--to", "http://127.0.0.1:9", "path:/same"], "nobody answers at http://127.0.0.1:9"),
        ([], "'--to'"),
    ],
)
def test_what_cannot_be_done(backend, capsys, words, problem):
    code, _, err = run(capsys, *words, "--url", backend)
    assert code == 2
    assert problem in err
    assert err.count("\n") == 1


def test_no_backend(capsys):
    code, _, err = run(capsys, "--to", "http://a", "--url", "http://127.0.0.1:9")
    assert code == 2
    assert "nobody answers" in err


def test_a_file_that_cannot_be_written(backend, target, capsys):
    code, _, err = run(capsys, "path:/same", "--to", target.url, "--url", backend, "--junit", "/nowhere/r.xml")
    assert (code, err) == (2, "sp-proxy: /nowhere/r.xml: No such file or directory\n")
