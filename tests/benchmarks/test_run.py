"""Short runs of the comparison, so that it cannot rot: shapes, not speeds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cases import CASES, Kind
from benchmarks.proxies import PROXIES
from benchmarks.run import options, takes_part
from tests.requirements import require_root_tools
from tests.test_project import ROOT


def _bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    require_root_tools("setpriv", "nginx", "wrk", "h2load")
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def _results(file: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by case and proxy."""
    said = json.loads(file.read_text())
    assert {"machine", "date", "versions", "rounds"} == set(said["facts"])
    assert {result["case"]: result["failures"] for result in said["results"] if result["failures"]} == {}
    return {result["case"]: result["medians"] for result in said["results"]}


@pytest.mark.timeout(180)
def test_the_short_form(tmp_path):
    before = (ROOT / "docs" / "performance.md").read_bytes()
    done = _bench("--short", "--json", str(tmp_path / "rounds.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = _results(tmp_path / "rounds.json")
    assert set(results) == {"get-16", "h2-10"}
    for case, medians in results.items():
        assert set(medians) == {"sp-exported", "envoy"}, case
        for numbers in medians.values():
            assert numbers["cpu_us"] > 1
            assert numbers["rate"] > 100
            assert numbers["errors"] == 0
            assert 0 < numbers["p50_ms"] <= numbers["p99_ms"] <= numbers["p999_ms"]
            assert 5 < numbers["pss_mib"] <= numbers["rss_mib"]
        ours = medians["sp-exported"]
        assert 0 < ours["worker_cpu_us"] < ours["cpu_us"]
        assert CASES[case].title in done.stdout
    assert (ROOT / "docs" / "performance.md").read_bytes() == before


@pytest.mark.timeout(180)
def test_the_other_proxies(tmp_path):
    everybody = {"sp-handed", "envoy-traced", "haproxy-bytes", "mitmdump", "proxy-py"}
    done = _bench(
        *("--only", "post-16,new-16", "--proxies", ",".join(sorted(everybody)), "--seconds", "1"),
        *("--repeat", "1", "--markdown", "--json", str(tmp_path / "rounds.json")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    medians = _results(tmp_path / "rounds.json")
    assert {case: set(found) for case, found in medians.items()} == {
        "post-16": everybody,
        "new-16": everybody - {"haproxy-bytes"},
    }
    assert done.stdout.count("| --- |") == 2


@pytest.mark.timeout(180)
def test_large_bodies_and_idle_connections(tmp_path):
    everybody = {"direct", "sp-off", "sp-handed"}
    done = _bench(
        *("--only", "down,up,idle-1000", "--proxies", ",".join(sorted(everybody))),
        *("--repeat", "1", "--json", str(tmp_path / "rounds.json")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = _results(tmp_path / "rounds.json")
    assert {name: set(medians) for name, medians in results.items()} == {
        "down": everybody,
        "up": everybody,
        "idle-1000": everybody - {"direct"},
    }
    for case in ("down", "up"):
        assert all(numbers["mb_s"] > 1 for numbers in results[case].values())
        assert results[case]["sp-off"]["cpu_us"] > 1
    for numbers in results["idle-1000"].values():
        assert 0 < numbers["connections"] <= 1000
        assert 0 < numbers["worker_more_pss_mib"] < numbers["pss_mib"]


def test_everything_is_run_and_written_unless_told_otherwise():
    chosen = options([])
    assert (chosen.only, chosen.proxies, chosen.repeat, chosen.write) == (list(CASES), list(PROXIES), 3, True)


@pytest.mark.parametrize("arguments", [["--only", "get-1"], ["--proxies", "envoy"], ["--short"], ["--no-write"]])
def test_a_part_is_not_written(arguments):
    assert options(arguments).write is False


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--only", "get-17"], "'get-17' is unknown; known are get-1, "),
        (["--proxies", "squid"], "'squid' is unknown; known are direct, "),
        (["--seconds", "0"], "a number from 1 to 600"),
        (["--seconds", "nan"], "a number from 1 to 600"),
        (["--repeat", "0"], "--repeat: a number from 1 to 100"),
        (["--repeat", "many"], "--repeat"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        options(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_who_takes_part():
    def names(case: str) -> set[str]:
        return {name for name, proxy in PROXIES.items() if takes_part(proxy, CASES[case])}

    usual = {name for name, proxy in PROXIES.items() if not proxy.only}
    assert names("get-16") == set(PROXIES) - {"haproxy-bytes"}
    assert names("get-1") == usual
    assert names("h2-1") == (usual | {"haproxy-bytes"}) - {"proxy-py"}
    assert names("two-workers-64") == usual - {"mitmdump"}
    assert names("idle-1000") == usual - {"direct"}


def test_the_cases_that_a_proxy_is_limited_to_exist():
    assert {name for proxy in PROXIES.values() for name in proxy.only} <= set(CASES)


def test_the_whole_run_is_bounded():
    """Its load alone, by default: what a busy machine cannot shorten."""
    chosen = options([])
    rounds = sum(
        chosen.repeat
        for case in CASES.values()
        for proxy in PROXIES.values()
        if case.kind in {Kind.LOAD, Kind.HTTP2} and takes_part(proxy, case)
    )
    assert rounds * chosen.seconds < 12 * 60
