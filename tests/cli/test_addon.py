"""``sp-proxy addon``, from its command line."""

from pathlib import Path

import pytest

from sp_proxy.addons.trial import TOLD
from sp_proxy.cli.main import main

EXAMPLES = sorted(path for path in (Path(__file__).parent.parent.parent / "addons").glob("*.py"))


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "kind, said",
    [
        ("capture", ["capture hook", "leaves the sample as it is"]),
        ("request", ["request hook", "pure", "leaves the sample as it is"]),
        ("flow", ["flow script"]),
    ],
)
def test_what_new_writes_passes_the_check(kind, said, capsys):
    assert main(["addon", "new", "my_addon", "--kind", kind]) == 0
    written, then = capsys.readouterr().out.splitlines()
    assert written == "addons/my_addon.py: written; sp-proxy addon check addons/my_addon.py"
    assert then.startswith(
        "in force with addons.flows: [{file: addons/my_addon.py,"
        if kind == "flow"
        else "in force with addons.files: [addons/"
    )
    assert main(["addon", "check", "my_addon"]) == 0
    out = capsys.readouterr().out
    assert all(each in out for each in said)


def test_new_leaves_what_is_there_alone(capsys):
    assert main(["addon", "new", "mine", "-d", "x/y"]) == 0
    assert main(["addon", "new", "mine", "-d", "x/y"]) == 1
    assert capsys.readouterr().err == "sp-proxy: x/y/mine.py: file exists\n"
    assert main(["addon", "new", "not-a-name"]) == 2


@pytest.mark.parametrize(
    "text, said",
    [
        ("def exchange(ex)\n", "a.py:1: expected ':'"),
        ("import nowhere\ndef exchange(ex): ...\n", "a.py:1: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_check_names_the_line(text, said, capsys):
    Path("a.py").write_text(text)
    assert main(["addon", "check", "a.py"]) == 1
    assert capsys.readouterr().err == f"sp-proxy: {said}\n"
    assert main(["addon", "bench", "none"]) == 1
    assert "addons/none.py: cannot be read" in capsys.readouterr().err


def test_check_tells_what_a_hook_does(capsys):
    Path("a.py").write_text(
        "required = True\n"
        "def exchange(ex):\n    ex.tag('who', ex.request.json()['customer'])\n    ex.count('seen', x=1)\n"
        "def request(head):\n    head.headers['x-a'] = '1'\n    head.host = 'b'\n    head.capture = False\n    head.tag('t', 2)\n"
    )
    assert main(["addon", "check", "a.py"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "a.py: capture hook, request hook",
        "required: what it could not see is not sent",
        TOLD,
        "exchange(ex): changes the sample",
        "  tag who: c-42",
        "  metric seen {'x': '1'}: 1",
        "request(head): changes the sample",
        "  adds x-a: 1",
        "  host: b",
        "  capture: False",
        "  tag t: 2",
    ]
    Path("b.py").write_text("def exchange(ex): ex.drop()\n")
    assert main(["addon", "check", "b.py"]) == 0
    assert "drops the sample" in capsys.readouterr().out
    Path("c.py").write_text("def exchange(ex):\n    1 / 0\ndef request(head):\n    1 / 0\n")
    assert main(["addon", "check", "c.py"]) == 1
    out = capsys.readouterr().out
    assert "exchange(ex): failed with the sample: ZeroDivisionError at c.py:2" in out
    assert "request(head): failed with the sample" in out


def test_bench_measures_both_kinds(capsys):
    Path("a.py").write_text(
        "pure = True\ndef exchange(ex): ...\ndef request(head):\n    assert int(head.path[11:]) % 2\n"
    )
    assert main(["addon", "bench", "a.py", "--seconds", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert "µs in the hook's process" in out
    assert "µs of the relay's time for each request; nothing for a head that came before (pure)" in out
    assert "calls failed" in err
    Path("f.py").write_text("def response(flow): ...\n")
    assert main(["addon", "bench", "f.py"]) == 0
    assert "a flow script costs what mitmproxy costs" in capsys.readouterr().err
    Path("bad.py").write_text("def request(head):\n    1 / 0\n")
    assert main(["addon", "bench", "bad.py"]) == 1
    assert "nothing to measure: see sp-proxy addon check" in capsys.readouterr().err


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_pass_the_check(path, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("EXPORT_LINES", str(tmp_path / "lines.jsonl"))
    assert main(["addon", "check", str(path)]) == 0, capsys.readouterr()
    assert path.name in capsys.readouterr().out
