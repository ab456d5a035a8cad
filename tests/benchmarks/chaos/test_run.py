"""The chaos run: its short form for real, and its command line."""

import os
import re
import subprocess
import sys

import pytest

from benchmarks.chaos.run import COPIES, SECONDS, options
from benchmarks.chaos.schedule import schedule
from tests.e2e.harness import require_daemon
from tests.test_project import ROOT

SEED = 1


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos.run", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )


@pytest.mark.timeout(400)
def test_the_short_form():
    require_daemon("nft", "iptables-nft", "ip6tables-nft", "mount", "umount")
    done = run("--short", "--seed", str(SEED))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No request failed that would not have failed without sp_proxy" in done.stdout
    faults = schedule(SEED, options(["--short"]).seconds)
    assert f"seed {SEED}: " in done.stdout
    (made,) = re.findall(r" ([0-9]+) faults", done.stdout)
    assert len(faults) / 2 < int(made) <= len(faults), "on a slow machine some are left out"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    by_way = {(cells[0], cells[1]): cells[2:] for cells in rows if cells[0] in {"shop", "control"}}
    assert len(by_way) == 8
    assert all(int(cells[0].replace(",", "")) > 50 for cells in by_way.values())
    kinds = {fault.kind for fault in faults}
    assert len([cells for cells in rows if cells[0] in kinds]) > len(kinds) / 2


def test_what_would_happen_is_shown_without_doing_it():
    done = run("--show", "--seconds", "60", "--seed", "4")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.strip().split("  ")[1].partition(",")[0] for line in lines] == [
        fault.kind.partition(",")[0] for fault in schedule(4, 60)
    ]


def test_ten_minutes_are_the_usual_ones():
    chosen = options([])
    assert (chosen.seconds, chosen.copies, chosen.keep) == (SECONDS, COPIES, None)
    assert SECONDS == 600


@pytest.mark.parametrize(
    "arguments, message", [(["--seconds", "3"], "at least 10"), (["--seed", "x"], "--seed"), (["envoy"], "envoy")]
)
def test_a_wrong_command_line_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        options(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
