"""The soaks: their short form for real, and how they judge."""

import os
import subprocess
import sys

import pytest

from benchmarks.processes import BenchmarkError
from benchmarks.soak import CALLS, CONNECTIONS, FORMS, SECONDS, SHORT, Memory, Soaked, options, problems, row, summary
from tests.test_project import ROOT


@pytest.mark.timeout(300)
def test_the_short_form():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--short"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [cells[0] for cells in rows] == [f"{SHORT[name]:,.0f} {form.title}" for name, form in FORMS.items()]
    calls, connections, http1 = rows
    assert calls[2:4] == ["1", "4,000"]
    assert connections[2:4] == ["400", "400"]
    assert int(http1[2].replace(",", "")) > 16
    assert int(http1[3].replace(",", "")) > 100
    for cells in rows:
        assert all(10 < float(cell) < 300 for cell in (*cells[4:7], *cells[8:11]))


def test_memory_behind_the_warm_up_is_compared_with_the_end():
    samples = [
        (at / 100, 10 + at // 20) for at in range(101)
    ]  # a step every fifth: 11 behind the warm-up, 14 at the end
    found = summary(samples)
    assert (found.first, found.last, found.most) == (11, 14, 15)
    assert found.growth == pytest.approx(3 / 11)
    assert summary([(at / 100, 50 if at == 50 else 7) for at in range(101)]) == Memory(7, 7, 50)
    for samples in ([], [(0.25, 1)], [(0.95, 1)]):
        with pytest.raises(BenchmarkError, match="too short"):
            summary(samples)


def soaked(*, last: float = 105.0, counted: int = 7, captured: int = 70) -> Soaked:
    return Soaked(1.0, Memory(100.0, last, last), Memory(1.0, 1.0, 1.0), 7, counted, captured, (("queue_full", 2.0),))


def test_what_must_not_be():
    assert problems(0.1, soaked(), 70) == []
    assert problems(0.1, soaked(captured=71), None) == []
    assert problems(0.1, soaked(last=50.0), 70) == []
    found = problems(0.1, soaked(last=111.0, counted=8, captured=69), 70)
    assert [line.split(",")[0] for line in found] == [
        "the worker's memory grew by 11.0%",
        "8 connections were seen",
        "69 exchanges were captured",
    ]


def test_a_row_has_everything():
    assert row("calls", 70, soaked()).startswith("| 70 gRPC calls on one connection | 1 | 7 | 70 | 0.0 |")
    assert row("calls", 70, soaked()).endswith("| +5.0% | 0.0 | 0.0 | 0.0 | `queue_full` 2 |")


def test_the_long_forms_are_the_usual_ones():
    chosen = options([])
    assert chosen.forms == list(FORMS)
    assert chosen.amounts == {"calls": CALLS, "connections": CONNECTIONS, "http1": SECONDS}
    assert (CALLS, CONNECTIONS, SECONDS) == (200_000, 100_000, 600)
    assert options(["--short"]).amounts == SHORT
    assert options(["--worker", "tls"]).forms == ["calls", "connections"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["grpc"], "'grpc' is unknown; known are calls, connections, http1"),
        (["--calls", "0"], "at least 5"),
        (["--seconds", "many"], "--seconds"),
        (["--worker", "envoy"], "--worker"),
        (["http1", "--worker", "tls"], "http1 has no form inside of TLS"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        options(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
