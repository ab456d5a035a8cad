import json
import re
import shlex
from pathlib import Path

import pytest

from sp_proxy.cli.main import main
from tests.backend.requests import HOSTILE, exchange_span
from tests.cli.backends import holding

CONFIG = """
collectionRules:
  http:
    server:
      - {path: ^/orders, methods: [GET]}
      - {path: /internal, exclude: true}
    client:
      - {host: ^payment, limits: {exchanges_per_second: 5}}
sampling: {ratio: 0.5}
"""
LOW, HIGH = (
    "00-4bf92f3577b34da6a300000000000001-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ffffffffffffff-00f067aa0ba902b7-01",
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.mark.parametrize("path", ["orders", "", "a b"])
def test_a_path_that_is_no_request_target(file, path, capsys):
    assert main(["rules", "test", file, "--host", "shop", "--path", path]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_rule_that_decides(file, capsys):
    assert main(["rules", "test", file, "--host", "shop:8080", "--path", "/orders/7", "--direction", "inbound"]) == 0
    out = capsys.readouterr().out
    assert "inbound  GET shop:8080/orders/7" in out
    assert "=> server[0]" in out
    assert "matched: '^/orders' in '/orders/7'" in out
    assert "captured, by server[0]" in out
    lines = out.splitlines()
    excluded = next(number for number, line in enumerate(lines) if "server[1]" in line)
    assert "path did not match" in lines[excluded]
    assert "did not match: '/internal' in '/orders/7'" in lines[excluded + 1]
    assert "its trace id decides" in out


def test_both_directions_when_none_is_named(file, capsys):
    assert main(["rules", "test", file, "--host", "payment", "--json"]) == 0
    inbound, outbound = map(json.loads, capsys.readouterr().out.splitlines())
    assert (inbound["direction"], inbound["decision"]["reason"]) == ("inbound", "no_rule")
    assert (outbound["direction"], outbound["decision"]["rule"]) == ("outbound", "client[0]")
    assert "client[0] has limits: what is over them is not captured" in outbound["notes"]
    assert [step["verdict"] for step in outbound["steps"]].count("decides") == 1


@pytest.mark.parametrize("parent, said", [(HIGH, "its trace is kept"), (LOW, "its trace is not kept")])
def test_sampling_by_the_trace(file, capsys, parent, said):
    words = ["--host", "a", "--path", "/orders", "--direction", "inbound", "-H", f"Traceparent: {parent}"]
    assert main(["rules", "test", file, *words]) == 0
    assert said in capsys.readouterr().out


def test_not_captured(file, capsys):
    words = ["--host", "a", "--path", "/orders/internal", "--direction", "inbound"]
    assert main(["rules", "test", file, *words]) == 1
    assert "not captured (excluded), by server[1]" in capsys.readouterr().out
    assert main(["rules", "test", file, "--host", "a", "--path", "/orders/a.js", "--direction", "inbound"]) == 1
    assert "=> capture.skip_static" in capsys.readouterr().out
    words = [
        "--host",
        "a",
        "--path",
        "/orders",
        "--direction",
        "inbound",
        "--response-header",
        "Content-Type: text/html",
    ]
    assert main(["rules", "test", file, *words]) == 1
    assert "=> capture.skip_static (response)" in capsys.readouterr().out


def test_a_wrong_pattern_is_one_line(file, tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("collectionRules: {http: {client: [{host: 'a['}]}}")
    assert main(["rules", "test", str(wrong), "--host", "a"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert 'client[0].host: found "a["' in err


@pytest.mark.parametrize(
    "words",
    [
        ["--host", "a", "--header", "nothing"],
        ["--host", "a", "--header", "a: b\r\nc: d"],
        ["--host", "a", "--path", "/a b"],
        ["--host", "a", "--method", "G T"],
        ["--host", "a", "--direction", "sideways"],
        [],
    ],
)
def test_a_wrong_command_line_is_one_line(file, words, capsys):
    assert main(["rules", "test", file, *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_is_not_there(capsys):
    assert main(["rules", "test", "/nowhere.yaml", "--host", "a"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def backend():
    with holding(
        *(exchange_span(at=at, path=f"/orders/{at}") for at in range(5)),
        exchange_span(at=6, path="/internal/x"),
        exchange_span(at=7, path=HOSTILE, service="evil", host="payment", direction="outbound"),
    ) as address:
        yield address


def test_what_a_configuration_would_change(file, backend, capsys):
    assert (
        main(["rules", "try", file, "--backend", backend, "--set", "sampling.ratio=1", "--filter", "service:orders"])
        == 3
    )
    out = capsys.readouterr().out
    assert "excluded by server[1]" in out
    assert "GET shop.local:8080/internal/x" in out
    assert "decided about nothing here: exemption[0], client[0]" in out
    assert "6 exchanges: 5 stay, 1 would no longer be captured" in out


def test_it_says_so_to_programs_too(file, backend, capsys):
    words = [
        "--backend",
        backend,
        "--set",
        "sampling.ratio=1",
        "--json",
        "--set",
        "redaction.rules=[{headers: [accept]}]",
    ]
    assert main(["rules", "try", file, *words]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["looked_at"], found["stay"]) == (7, 6)
    assert found["redacted"] == [
        {"reason": "request header accept", "count": 6, "example": found["redacted"][0]["example"]}
    ]


def test_no_difference(tmp_path, backend, capsys):
    same = tmp_path / "same.yaml"
    same.write_text("{}")
    assert main(["rules", "try", str(same), "--backend", backend]) == 0
    out = capsys.readouterr().out
    assert "7 exchanges: no difference" in out
    assert "\x1b" not in out


def test_what_begins_to_be_captured(file, tmp_path, backend, capsys):
    new = tmp_path / "new.yaml"
    new.write_text("redaction: {detectors: {jwt: off}}")
    assert main(["rules", "try", str(new), "--backend", backend, "--current", file]) == 3
    out = capsys.readouterr().out
    assert "cannot be known, as it was not captured: server[1], which excludes, is gone (path '/internal')" in out
    assert "there are no collection rules any more: everything is captured" in out
    assert "the detector jwt is off: what it took out is left in" in out
    assert "7 exchanges: no difference" in out
    assert main(["rules", "try", file, "--set", "sampling.ratio=1", "--backend", backend, "--current", "/nowhere"]) == 2


def test_what_goes_wrong_with_a_trial_is_one_line(file, backend, capsys):
    assert main(["rules", "try", file, "--backend", backend, "--filter", "servise:x"]) == 2
    assert main(["rules", "try", file, "--backend", "http://127.0.0.1:1"]) == 1
    assert main(["rules", "try", "/nowhere.yaml", "--backend", backend]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def documented() -> tuple[str, list[str], list[str]]:
    """Of docs/local.md: the rules, and what `test` and `try` say of them."""
    section = (Path(__file__).parent.parent.parent / "docs/local.md").read_text().split("## Rules at hand\n")[1]
    rules, told, tried = re.findall(r"^```\w*\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return rules, told.splitlines(), tried.splitlines()


def words(line: str) -> str:
    return " ".join(line.split())


def test_what_the_document_shows_of_test(tmp_path, capsys, monkeypatch):
    rules, (command, *expected), _ = documented()
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text(rules)
    assert main(shlex.split(command)[2:]) == 0
    out = [words(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in expected if line.strip() != "…" and words(line) not in out] == []


def test_what_the_document_shows_of_try(tmp_path, capsys, monkeypatch):
    rules, _, (command, *expected) = documented()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    Path("rules.yaml").write_text(rules)
    with_token = {"http.request.header.x-token": "abc"}
    with holding(
        *(exchange_span(at=at, path=f"/orders/{at}", more=with_token if at < 2 else None) for at in range(5)),
        exchange_span(at=6, path="/internal/x"),
        exchange_span(at=7, path="/orders?u=[REDACTED]"),
    ) as url:
        asked = shlex.split(command)[2:]
        asked[asked.index("--filter") + 1] = ""  # the exchanges of this test are of another year
        assert main([*asked, "--backend", url]) == 3
    out = [words(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in expected if words(line) not in out] == []
