"""``make bench``: the proxies side by side, in one run, by turns, so that a busy machine slows all of them alike.

Each case is measured in rounds; in a round every proxy has its turn, in an order that moves on by one with each round. The
table has the medians. A proxy that fails a case is said to have failed it, and the run goes on with a fresh one.

    python -m benchmarks.run [--only CASE,...] [--proxies NAME,...] [--repeat N] [--seconds S] [--short]
                             [--json FILE] [--markdown] [--write | --no-write]
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.cases import CASES, Case, Kind
from benchmarks.fleet import Fleet
from benchmarks.measure import measure
from benchmarks.origin import accepts, ports, start_nginx
from benchmarks.processes import BenchmarkError, Running
from benchmarks.proxies import PROXIES, Proxy

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
SHORT = {"only": ["get-16", "h2-10"], "proxies": ["sp-exported", "envoy"], "seconds": 1.0, "repeat": 3}


def _names(known: Sequence[str]) -> "type[list[str]]":
    class Names(list[str]):
        def __init__(self, text: str) -> None:
            super().__init__(text.split(","))
            for name in self:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is unknown; known are {', '.join(known)}")

    return Names


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError("a number from 1 to 600")
    return value


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the program with one line when it is wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description="Compare sp_proxy with other proxies.")
    parser.add_argument("--only", type=_names(list(CASES)), help=f"cases: {', '.join(CASES)}")
    parser.add_argument("--proxies", type=_names(list(PROXIES)), help=f"proxies: {', '.join(PROXIES)}")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (3)")
    parser.add_argument("--seconds", type=_positive, default=2.0, help="of load in a round (2)")
    parser.add_argument("--short", action="store_true", help="two proxies, two cases, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's numbers there")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/performance.md has it")
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        help="put the tables into docs/performance.md (default: when all cases of all proxies were run)",
    )
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.repeat <= 100:
        parser.error("argument --repeat: a number from 1 to 100")
    if chosen.write is None:
        chosen.write = not (chosen.only or chosen.proxies or chosen.short)
    if chosen.short:
        chosen.only = chosen.only or SHORT["only"]
        chosen.proxies = chosen.proxies or SHORT["proxies"]
        chosen.seconds, chosen.repeat = SHORT["seconds"], SHORT["repeat"]
    chosen.only = chosen.only or list(CASES)
    chosen.proxies = chosen.proxies or list(PROXIES)
    return chosen


def takes_part(proxy: Proxy, case: Case) -> bool:
    """Whether this proxy can do it, and there is something to measure."""
    if (case.kind is Kind.IDLE and not proxy.measured) or (proxy.only and case.name not in proxy.only):
        return False
    return (proxy.http2 or case.kind is not Kind.HTTP2) and (proxy.many_workers or case.workers == 1)


def run_case(case: Case, fleet: Fleet, proxies: list[Proxy], seconds: float, repeat: int) -> report.Result:
    """All rounds of one case."""
    result = report.Result(case)
    # Memory hardly varies, and every idle measurement needs a fresh process: one round.
    for number in range(1 if case.kind is Kind.IDLE else repeat):
        turn = number % len(proxies)
        for proxy in (*proxies[turn:], *proxies[:turn]):
            if proxy.name in result.failures:
                continue
            try:
                instance = fleet.instance(proxy, case)
                result.add(proxy.name, measure(case, instance, fleet.setup(case), seconds))
            except BenchmarkError as error:
                result.failures[proxy.name] = f"{error}{fleet.discard(proxy)}"
            if case.kind is Kind.IDLE:
                fleet.discard(proxy)
    return result


def run(chosen: argparse.Namespace) -> list[report.Result]:
    """Start the origins, measure every case, end everything."""
    results = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sp-proxy-bench-")))
        origin = ports(directory)
        stack.enter_context(start_nginx(directory, origin.http1, origin.http2, origin.otlp))
        reader = Running(
            "uploads",
            [sys.executable, "-m", "benchmarks.origin", str(origin.uploads)],
            directory,
            {"PYTHONPATH": str(DOCUMENT.parent.parent)},
        )
        stack.enter_context(reader)
        reader.wait_for(lambda: accepts(origin.uploads))
        fleet = stack.enter_context(Fleet(directory, origin))
        for name in chosen.only:
            case = CASES[name]
            proxies = [PROXIES[each] for each in chosen.proxies if takes_part(PROXIES[each], case)]
            if not proxies:
                continue
            start = time.monotonic()
            fleet.prepare(case)
            result = run_case(case, fleet, proxies, chosen.seconds, chosen.repeat)
            results.append(result)
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
            if not chosen.markdown:
                print(report.as_text(result), flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 when sp_proxy failed, or the run itself. That another proxy fails a case is a finding."""
    chosen = options(arguments)
    # SIGTERM unwinds, so that everything is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    facts = report.facts(chosen.seconds, chosen.repeat)
    try:
        results = run(chosen)
    except BenchmarkError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = report.as_markdown(facts, results)
    if chosen.markdown:
        print(text)
    if chosen.json:
        chosen.json.write_text(json.dumps({"facts": facts, "results": [each.as_json() for each in results]}, indent=1))
    if chosen.write:
        report.write(DOCUMENT, text)
    return 1 if any(name.startswith("sp-") for result in results for name in result.failures) else 0


if __name__ == "__main__":
    sys.exit(main())
