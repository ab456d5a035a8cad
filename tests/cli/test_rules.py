import json

import pytest

from sp_proxy.cli.main import main

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
