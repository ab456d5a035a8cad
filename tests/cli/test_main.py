"""The console script: fast, lazy, and one clear line for a wrong command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sp_proxy import __version__
from sp_proxy.cli import main as cli
from sp_proxy.cli.main import COMMANDS, Subcommand, main

SCRIPT = [sys.executable, "-m", "sp_proxy.cli.main"]

HEAVY = ("trio", "mitmproxy", "uvloop", "starlette", "pydantic", "httpx", "yaml")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A subcommand ``probe`` with a module of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> None:
        (tmp_path / "probe_module.py").write_text(text)
        monkeypatch.delitem(sys.modules, "probe_module", raising=False)
        monkeypatch.setitem(COMMANDS, "probe", Subcommand("probe_module", "Probe it."))

    yield write
    sys.modules.pop("probe_module", None)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sp-proxy {__version__}\n"


def test_importing_it_imports_nothing_heavy():
    code = f"import sys, sp_proxy.cli.main as m; m.main(['--help']); print([n for n in {HEAVY} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_is_fast():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([*SCRIPT, "--help"], capture_output=True, check=True, timeout=30)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4


def test_help_lists_what_exists_and_imports_none_of_it(capsys, monkeypatch, module):
    module("raise RuntimeError('imported')")
    monkeypatch.setitem(COMMANDS, "later", Subcommand("sp_proxy.cli.later", "Not there yet."))
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "Probe it." in out
    assert "config" in out
    assert "later" not in out


@pytest.mark.parametrize(
    "words,line",
    [
        ([], "sp-proxy: a command is missing; see sp-proxy --help\n"),
        (["config"], "sp-proxy config: Missing command. (see sp-proxy config --help)\n"),
        (["--typo"], "sp-proxy: No such option: --typo (see sp-proxy --help)\n"),
        (["config", "check"], "sp-proxy config check: Missing argument 'FILE'. (see sp-proxy config check --help)\n"),
        (["addon", "new", "a", "--kind", "b"], "sp-proxy addon new: Invalid value for '--kind': 'b' is not one of 'capture', 'request', 'flow'. (see sp-proxy addon new --help)\n"),
        (["config", "check", "a", "b"], "sp-proxy config check: Got unexpected extra argument(s) (b) (see sp-proxy config check --help)\n"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line(words, line, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err == line
    assert captured.out == ""


def test_an_unknown_command(capsys):
    assert main(["typo"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sp-proxy: no such command: 'typo'; commands: ")


def test_a_command_whose_module_does_not_exist(capsys, monkeypatch):
    monkeypatch.setitem(COMMANDS, "later", Subcommand("sp_proxy.cli.later", "Not there yet."))
    assert main(["later"]) == 2
    assert "no such command: 'later'" in capsys.readouterr().err


def test_a_function_of_the_commands_name(capsys, module):
    module("def probe(word: str, loud: bool = False) -> int:\n    'Probe a word.'\n    print(word)\n    return 3\n")
    assert main(["probe", "hello"]) == 3
    assert capsys.readouterr().out == "hello\n"
    assert main(["probe", "--help"]) == 0
    assert "Probe a word." in capsys.readouterr().out
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == "sp-proxy probe: Missing argument 'word'. (see sp-proxy probe --help)\n"


def test_an_app_with_several_commands(capsys, module):
    module(
        "import typer\napp = typer.Typer()\n@app.command()\ndef a(): print('a')\n@app.command()\ndef b(): raise typer.Exit(7)\n"
    )
    assert main(["probe", "a"]) == 0
    assert capsys.readouterr().out == "a\n"
    assert main(["probe", "b"]) == 7


@pytest.mark.parametrize("name", COMMANDS)
def test_no_subcommand_has_completion_of_its_own(capsys, name):
    assert main([name, "--help"]) == 0
    assert "completion" not in capsys.readouterr().out


def test_an_interrupt_is_quiet(capsys, module):
    module("def probe():\n    raise KeyboardInterrupt\n")
    assert main(["probe"]) == 130
    assert capsys.readouterr().err == ""


def test_an_interrupt_of_the_process(tmp_path):
    (tmp_path / "probe_module.py").write_text(
        "import signal\ndef probe():\n    print('on', flush=True)\n    signal.pause()\n"
    )
    code = "import sys; from sp_proxy.cli import main as m; m.COMMANDS['probe'] = m.Subcommand('probe_module', ''); sys.exit(m.main(['probe']))"  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(cli.__file__).parents[2]}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == b""


def test_a_reader_that_went_away_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [*SCRIPT, "config", "show"], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=30
        )
    finally:
        os.close(writer)
    assert result.returncode == 141
    assert result.stderr == b""


@pytest.mark.parametrize("words", [["config", "show", "--set", "public_key=k"], ["--help"], ["--version"]])
def test_a_disk_that_is_full_is_one_line(words):
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([*SCRIPT, *words], stdout=full, stderr=subprocess.PIPE, check=False, timeout=30)
    assert result.stderr == b"sp-proxy: standard output: no space left on device\n"
    assert result.returncode == 1
