"""The chaos run: traffic through a pod beside a real Envoy while everything in it is killed, stopped and changed at random.

    python -m benchmarks.chaos.run [--seconds S] [--seed N] [--short] [--keep DIRECTORY]

The workers, the supervisor, the Envoys and the backend are killed, stopped and started again, the disk fills, the rules are applied
and removed, the settings change: what, when and for how long is decided by the seed (``schedule.py``), so that a run can be had
again. Clients in both directions and over both IP versions keep account of each request, and so do their likes in a second
pod without sp_proxy, whose Envoys fare the same. At the end everything is well again, what waits is delivered, and then judged:
no request may have failed that would not have failed without sp_proxy (``traffic.py``), and every exchange must be
accounted for (``delivery.py``). Exit code 1 otherwise, with each request that failed and the seed.

As root, on Linux, with iproute2, nftables and iptables.
"""

import argparse
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.chaos import delivery, traffic
from benchmarks.chaos.daemon import Auditor
from benchmarks.chaos.faults import Chaos
from benchmarks.chaos.history import History
from benchmarks.chaos.report import problems, report
from benchmarks.chaos.schedule import Fault, schedule
from benchmarks.chaos.stage import HEARTBEAT_TIMEOUT, Stage
from benchmarks.processes import BenchmarkError

SECONDS, SHORT_SECONDS = 600.0, 30.0
COPIES, SHORT_COPIES = 2, 1
CALM_SECONDS = 3.0
"""Of traffic before the first fault and after the last one."""
MOMENT = 0.05
OVERRUN = 1.5
"""Times the seconds of a run: then no more faults begin."""
DELIVER_SECONDS = 90.0
"""In which everything that waits is delivered, once all is well."""


def run(seed: int, seconds: float, copies: int, keep: Path | None) -> int:
    """One run; its exit code. Raises BenchmarkError."""
    faults = schedule(seed, seconds)
    with Stage(copies) as stage:
        try:
            return _run(stage, seed, seconds, faults)
        finally:
            if keep is not None:
                shutil.copytree(
                    stage.directory, keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("disk", "*.pem")
                )


def _run(stage: Stage, seed: int, seconds: float, faults: Sequence[Fault]) -> int:
    pod, history = stage.pod, stage.history
    pod.configure(stage.settings())
    stage.write_rules_settings()
    pod.start()
    chaos = Chaos(stage, lambda line: print(line, file=sys.stderr, flush=True))
    chaos.apply()
    with Auditor(pod), watched_for_stalls(history):
        stage.start_clients()
        time.sleep(CALM_SECONDS)
        begun = time.monotonic()
        print(f"chaos, seed {seed}, begins at {datetime.now(UTC):%H:%M:%S.%f} UTC", file=sys.stderr, flush=True)
        chaos.run(faults, begun, OVERRUN * seconds)
        if not pod.settled(DELIVER_SECONDS):
            history.troubles.append("at the end its workers were not ready")
        time.sleep(CALM_SECONDS)
        requests = stage.end_clients()
        _wait_delivered(stage)
    pod.terminate()
    judged = traffic.judge(requests, stage.end_origins(), history, HEARTBEAT_TIMEOUT, begun)
    delivered = delivery.judge(requests, stage.delivered(), history)
    found = problems(judged, delivered, history)
    print(report(seed, seconds, judged, delivered, history, found), flush=True)
    return int(bool(found))


@contextmanager
def watched_for_stalls(history: History) -> Iterator[None]:
    """Notice how late a thread is that sleeps for a moment, again and again."""
    over = threading.Event()

    def watch() -> None:
        before = time.monotonic()
        while not over.wait(MOMENT):
            now = time.monotonic()
            if now - before - MOMENT > MOMENT:
                history.stalls.append((now, now - before - MOMENT))
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait_delivered(stage: Stage) -> None:
    deadline = time.monotonic() + DELIVER_SECONDS
    empty = 0
    while empty < 3:  # what workers send once a second may be on its way
        document = stage.pod.audit()
        waits = document is None or any(each["waiting"] + each["spooled"] for each in document["exporters"])
        empty = 0 if waits else empty + 1
        if time.monotonic() > deadline:
            stage.history.troubles.append(f"records still wait at the end: {document}")
            return
        time.sleep(0.5)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.chaos.run", description="Chaos in a pod, and whether anybody suffers."
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of faults; ten minutes by default")
    parser.add_argument("--seed", type=int, default=1, help="decides what happens when")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_SECONDS:g} seconds, with fewer clients")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="copy logs and journals there")
    parser.add_argument("--show", action="store_true", help="print what would happen, and nothing else")
    chosen = parser.parse_args(arguments)
    if chosen.short:
        chosen.seconds = SHORT_SECONDS
    if chosen.seconds < 10:
        parser.error("--seconds: at least 10")
    chosen.copies = SHORT_COPIES if chosen.short else COPIES
    return chosen


def main() -> int:
    """Exit code 1 for something that must not be, or a run that could not be made."""
    chosen = options()
    if chosen.show:
        for fault in schedule(chosen.seed, chosen.seconds):
            print(f"{fault.at:8.2f}  {fault.kind}, {fault.lasts:g} s")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is taken down
    try:
        return run(chosen.seed, chosen.seconds, chosen.copies, chosen.keep)
    except BenchmarkError as error:
        print(f"chaos, seed {chosen.seed}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
