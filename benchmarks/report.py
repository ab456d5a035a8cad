"""The tables: medians of the rounds, as text for a terminal and as Markdown for ``docs/performance.md``."""

import datetime as dt
import math
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Kind
from benchmarks.measure import Measured, Numbers
from benchmarks.processes import BenchmarkError
from benchmarks.proxies import PROXIES, versions

BEGIN = "<!-- bench:begin (written by make bench) -->"
END = "<!-- bench:end -->"
_BASELINE = "envoy"


@dataclass(slots=True)
class Result:
    """All rounds of one case, by proxy."""

    case: Case
    rounds: dict[str, list[Numbers]] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, proxy: str, measured: Measured) -> None:
        """One round's numbers."""
        self.rounds.setdefault(proxy, []).append(measured.numbers)
        if measured.remark:
            self.remarks[proxy] = measured.remark

    def medians(self) -> dict[str, Numbers]:
        """By proxy, in the order of ``PROXIES``; only of those that did not fail."""
        return {
            name: {key: statistics.median(each[key] for each in self.rounds[name]) for key in self.rounds[name][0]}
            for name in PROXIES
            if name in self.rounds and name not in self.failures
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        return {
            "case": self.case.name,
            "title": self.case.title,
            "rounds": self.rounds,
            "medians": self.medians(),
            "remarks": self.remarks,
            "failures": self.failures,
        }


@dataclass(frozen=True, slots=True)
class Column:
    """A number's place in the table."""

    title: str
    key: str
    digits: int = 1
    factor: float = 1.0


_MEMORY = (Column("PSS MiB", "pss_mib"), Column("of which worker", "worker_pss_mib"))
COLUMNS = {
    Kind.LOAD: (
        Column("CPU µs/request", "cpu_us"),
        Column("of which worker", "worker_cpu_us"),
        Column("of Envoy", "ratio", 2),
        Column("requests/s", "rate", 0),
        Column("p50 ms", "p50_ms", 2),
        Column("p99 ms", "p99_ms", 2),
        Column("p99.9 ms", "p999_ms", 2),
        Column("errors", "errors", 0),
        *_MEMORY,
    ),
    Kind.DOWNLOAD: (
        Column("MB/s", "mb_s", 0),
        Column("CPU ms/100 MiB", "cpu_us", 1, 1e-3),
        Column("of which worker", "worker_cpu_us", 1, 1e-3),
        Column("of Envoy", "ratio", 2),
        *_MEMORY,
    ),
    Kind.IDLE: (
        Column("connections", "connections", 0),
        Column("PSS MiB before", "before_pss_mib"),
        Column("of which worker", "worker_before_pss_mib"),
        Column("PSS MiB with them", "pss_mib"),
        Column("more MiB", "more_pss_mib"),
        Column("of which worker", "worker_more_pss_mib"),
        Column("RSS MiB with them", "rss_mib"),
    ),
}
COLUMNS[Kind.HTTP2] = COLUMNS[Kind.LOAD]
COLUMNS[Kind.UPLOAD] = COLUMNS[Kind.DOWNLOAD]


def table(result: Result) -> list[list[str]]:
    """Rows of cells, the heading first. A hyphen where there is nothing to say."""
    columns = COLUMNS[result.case.kind]
    rows = [["", *(column.title for column in columns)]]
    medians = result.medians()
    envoy = medians.get(_BASELINE, {}).get("cpu_us")
    for name, numbers in medians.items():
        shown = dict(numbers)
        if not PROXIES[name].measured:
            shown = {key: value for key, value in shown.items() if not key.endswith(("cpu_us", "_mib"))}
        elif envoy and "cpu_us" in shown:
            shown["ratio"] = shown["cpu_us"] / envoy
        rows.append([PROXIES[name].title, *(_cell(column, shown) for column in columns)])
    return rows


def _cell(column: Column, numbers: Numbers) -> str:
    value = numbers.get(column.key)
    return "-" if value is None or math.isnan(value) else f"{value * column.factor:,.{column.digits}f}"


def notes(result: Result) -> list[str]:
    """Lines below a table."""
    said = [f"{PROXIES[name].title}: {text}" for name, text in result.remarks.items() if name not in result.failures]
    return [*said, *(f"{PROXIES[name].title} failed: {text}" for name, text in result.failures.items())]


def as_text(result: Result) -> str:
    """Aligned columns."""
    rows = table(result)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [result.case.title]
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"  {first:<{widths[0]}}", *cells]))
    return "\n".join([*lines, *(f"  {note}" for note in notes(result)), ""])


def as_markdown(facts: dict[str, str], results: Iterable[Result]) -> str:
    """Facts of the run, then a table a case."""
    lines = [*(f"- {name}: {text}" for name, text in facts.items()), ""]
    for result in results:
        heading, *rows = table(result)
        lines += [f"### {result.case.title}", "", _row(heading), _row(["---", *["---:"] * (len(heading) - 1)])]
        lines += map(_row, rows)
        lines += ["", *(f"- {note}" for note in notes(result)), *([""] if notes(result) else [])]
    return "\n".join(lines).rstrip("\n")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def facts(seconds: float, repeat: int) -> dict[str, str]:
    """Machine, date, versions."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    mebibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    tools = {
        "nginx": _version("nginx", "-v", pattern=r"nginx/(\S+)"),
        "wrk": _version("wrk", "--version", pattern=r"wrk (\S+)"),
        "h2load": _version("h2load", "--version", pattern=r"nghttp2/(\S+)"),
    }
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {mebibytes:,} MiB, Linux {platform.release().split('-')[0]}",
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, load average before the run {load}",
        "versions": ", ".join(f"{name} {version}" for name, version in {**versions(), **tools}.items()),
        "rounds": f"medians of {repeat}, {seconds:g} s of load each; the proxies take turns",
    }


def _version(*command: str, pattern: str) -> str:
    variables = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL, env=variables
        )
    except FileNotFoundError:
        return "not installed"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "of unknown version"


def write(document: Path, text: str) -> None:
    """Put the text between the document's markers. Raises BenchmarkError when they are not there."""
    old = document.read_text("utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchmarkError(f"{document.name} has no place for the tables: {BEGIN} … {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
