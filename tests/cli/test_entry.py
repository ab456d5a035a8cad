"""The console script, before there is anything else."""

import os
import subprocess
import sys
from pathlib import Path

from sp_proxy import cli

PACKAGE = Path(cli.__file__).parents[2]
CALL = (sys.executable, "-c", "import sys; from sp_proxy.cli.entry import main; sys.exit(main())")


def test_an_interrupt_while_modules_are_read_is_quiet(tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PACKAGE}"}
    result = subprocess.run([*CALL, "--version"], env=environ, capture_output=True, check=False, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


def test_it_is_main_that_runs():
    result = subprocess.run([*CALL, "nope"], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert result.stderr.startswith("sp-proxy: no such command: 'nope'; commands: run, ")


def test_the_console_script_is_this_one():
    project = (PACKAGE / "pyproject.toml").read_text("utf-8")
    assert 'sp-proxy = "sp_proxy.cli.entry:main"' in project
