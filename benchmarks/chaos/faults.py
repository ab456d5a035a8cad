"""Makes the faults of a schedule, each track in a thread of its own, and writes down what was done and when."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.chaos.history import Done
from benchmarks.chaos.schedule import Fault, Kind
from benchmarks.chaos.sink import BUSY, LOSSY
from benchmarks.chaos.stage import Stage
from benchmarks.chaos.traffic import CONTROL, SHOP
from benchmarks.processes import tree

WRITERS = ("nft", "iptables-nft")
"""Those which may write beside Istio's rules as they are here."""
SETTLE_SECONDS = 4.0
"""After a fault the daemon gets this long until all its workers are ready; longer backoffs meet the next fault."""
UNPROVEN = "rules do not work"
"""How ``apply`` says that what it has written did not do what it should: while a daemon is stopped or dies, that may be."""
WRONG = {"relay": {"workers": 0}, "no_such_setting": True}


class Chaos:
    """What is done to a stage."""

    def __init__(self, stage: Stage, tell: Callable[[str], None]) -> None:
        """``tell`` gets a line for each thing that was done."""
        self._stage = stage
        self._pod = stage.pod
        self._tell = tell
        self._errors: list[BaseException] = []
        self._stop = threading.Event()
        self._writer = 0
        self._makers: dict[Kind, Callable[[Fault], str | None]] = {
            Kind.WORKER_KILLED: self._worker_killed,
            Kind.WORKERS_KILLED: self._workers_killed,
            Kind.WORKER_STOPPED: self._worker_stopped,
            Kind.WORKERS_STOPPED: self._workers_stopped,
            Kind.WORKER_STUCK: self._worker_stuck,
            Kind.SUPERVISOR_STOPPED: self._supervisor_stopped,
            Kind.SUPERVISOR_KILLED: self._supervisor_killed,
            Kind.ALL_KILLED: self._all_killed,
            Kind.TERMINATED: self._terminated,
            Kind.ENVOY_KILLED: self._envoys_killed,
            Kind.ENVOY_STOPPED: self._envoys_stopped,
            Kind.PEER_KILLED: self._envoys_killed,
            Kind.PEER_STOPPED: self._envoys_stopped,
            Kind.BACKEND_KILLED: self._backend_killed,
            Kind.BACKEND_STOPPED: self._backend_stopped,
            Kind.BACKEND_BUSY: self._backend_busy,
            Kind.BACKEND_LOSSY: self._backend_lossy,
            Kind.DISK_FULL: self._disk_full,
            Kind.RULES_REMOVED: self._rules_removed,
            Kind.RULES_APPLIED: self._rules_applied,
            Kind.SETTINGS_CHANGED: self._settings_changed,
            Kind.SETTINGS_WRONG: self._settings_wrong,
        }

    def run(self, faults: Sequence[Fault], begun: float, limit: float) -> None:
        """All of them, but for those that could only begin after so many seconds: on a slow machine each takes longer. Afterwards
        everything is well. Raises what a thread has raised.
        """
        tracks = {fault.track: [each for each in faults if each.track == fault.track] for fault in faults}
        threads = [
            threading.Thread(target=self._track, args=(each, begun, limit), name=name) for name, each in tracks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        self.apply()

    def apply(self) -> None:
        """The rules, with the tool whose turn it is, until it succeeds: as an init container that is tried again."""
        while (done := self._stage.rules("apply", "--writer", WRITERS[self._writer])).returncode:
            self._tell(f"rules refused: {done.stderr.strip()}")
            self._look_at_refusal(done.stderr)
            if self._stop.wait(1.0):
                return

    def _look_at_refusal(self, said: str) -> None:
        if UNPROVEN not in said:
            self._stage.history.troubles.append(f"rules cannot be written: {_last(said)}")

    def _track(self, faults: Sequence[Fault], begun: float, limit: float) -> None:
        try:
            for index, fault in enumerate(faults):
                if time.monotonic() > begun + limit:
                    self._stage.history.left_out += len(faults) - index
                    return
                if self._stop.wait(max(0.0, begun + fault.at - time.monotonic())):
                    return
                self._make(fault, begun)
        except BaseException as error:  # noqa: BLE001 (raised again by ``run``)
            self._errors.append(error)
            self._stop.set()

    def _make(self, fault: Fault, begun: float) -> None:
        began = time.monotonic()
        kills = len(self._stage.history.kills)
        note = self._makers[fault.kind](fault) or ""
        for kill in self._stage.history.kills[kills:] if fault.track == "daemon" else ():
            note += f"{'; ' if note else ''}{kill}"
        over = time.monotonic()
        self._stage.history.done.append(Done(fault.kind, began, over, note))
        self._tell(f"{began - begun:7.2f}-{over - begun:7.2f}  {fault.kind}{': ' if note else ''}{note}")

    # ---- the daemon

    def _one(self, fault: Fault) -> int | None:
        workers = sorted(self._pod.workers)
        return workers[fault.choice % len(workers)] if workers else None

    def _worker_killed(self, fault: Fault) -> str:
        victim = self._one(fault)
        if victim is None:
            return "there was none"
        self._pod.kill(fault.kind, [victim], supervisor=False)()
        return self._settle()

    def _workers_killed(self, fault: Fault) -> str:
        self._pod.kill(fault.kind, self._pod.workers, supervisor=False)()
        return self._settle()

    def _settle(self) -> str:
        return "" if self._pod.settled(SETTLE_SECONDS) else "workers are still held back"

    def _worker_stopped(self, fault: Fault) -> str:
        victim = self._one(fault)
        if victim is None:
            return "there was none"
        self._stopped(fault, [victim])
        return self._settle()

    def _workers_stopped(self, fault: Fault) -> str:
        self._stopped(fault, self._pod.workers)
        return self._settle()

    def _stopped(self, fault: Fault, pids: Sequence[int]) -> None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            self._pod.signal(number, *pids)
            if number == signal.SIGSTOP:
                time.sleep(fault.lasts)

    def _worker_stuck(self, fault: Fault) -> str:
        victim = self._one(fault)
        if victim is None:
            return "there was none"
        self._pod.stick(fault.kind, victim)
        return self._settle()

    def _supervisor_stopped(self, fault: Fault) -> str:
        self._stopped(fault, [self._pod.pid])
        return self._settle()

    def _supervisor_killed(self, fault: Fault) -> str:
        ended = self._pod.kill(fault.kind, [self._pod.pid], supervisor=True)
        time.sleep(fault.lasts)
        self._pod.start()
        ended()
        return self._settle()

    def _all_killed(self, fault: Fault) -> str:
        ended = self._pod.kill(fault.kind, tree(self._pod.pid), supervisor=True)
        ended()
        time.sleep(fault.lasts)
        self._pod.start()
        return self._settle()

    def _terminated(self, fault: Fault) -> str:
        self._pod.terminate()
        time.sleep(fault.lasts)
        self._pod.start()
        return self._settle()

    # ---- what is around it

    def _names(self, kind: Kind) -> tuple[str, ...]:
        return (SHOP, CONTROL) if kind in {Kind.ENVOY_KILLED, Kind.ENVOY_STOPPED} else ("peer",)

    def _envoys_killed(self, fault: Fault) -> None:
        envoys = self._stage.envoys(*self._names(fault.kind))
        for envoy in envoys:
            os.kill(envoy.pid, signal.SIGKILL)
        for envoy in envoys:
            envoy.kill()
        time.sleep(fault.lasts)
        starting = [threading.Thread(target=self._stage.start_envoy, args=(envoy,)) for envoy in envoys]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()

    def _envoys_stopped(self, fault: Fault) -> None:
        envoys = self._stage.envoys(*self._names(fault.kind))
        self._stopped(fault, [envoy.pid for envoy in envoys])

    def _backend_killed(self, fault: Fault) -> None:
        self._stage.backend.kill()
        self._stage.backend.wait()
        time.sleep(fault.lasts)
        self._stage.start_backend()

    def _backend_stopped(self, fault: Fault) -> None:
        self._stopped(fault, [self._stage.backend.pid])

    def _backend_busy(self, fault: Fault) -> None:
        self._stage.set_mood(BUSY)
        time.sleep(fault.lasts)
        self._stage.set_mood("")

    def _backend_lossy(self, fault: Fault) -> None:
        self._stage.set_mood(LOSSY)
        time.sleep(fault.lasts)
        self._stage.set_mood("")

    def _disk_full(self, fault: Fault) -> str:
        ballast = self._stage.disk / "ballast"
        size = 0
        with ballast.open("wb", buffering=0) as file:
            ends = time.monotonic() + fault.lasts
            while time.monotonic() < ends:  # what the spool gives back is taken too
                try:
                    size += file.write(bytes(4096))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    time.sleep(0.05)
        with suppress(FileNotFoundError):
            ballast.unlink()
        return f"by {size >> 10} KiB"

    def _rules_removed(self, fault: Fault) -> str | None:
        done = self._stage.rules("remove")
        if done.returncode:
            self._stage.history.troubles.append(f"rules cannot be removed: {_last(done.stderr)}")
        time.sleep(fault.lasts)
        self._writer = fault.choice % len(WRITERS)
        self.apply()
        return done.stderr.strip() or None

    def _rules_applied(self, _: Fault) -> str:
        writer = (self._writer + 1) % len(WRITERS)
        done = self._stage.rules("apply", "--writer", WRITERS[writer])
        if done.returncode:
            self._look_at_refusal(done.stderr)
            return f"refused: {done.stderr.strip()}"
        self._writer = writer
        self._stage.history.written[WRITERS[writer]] += 1
        return f"with {WRITERS[writer]}"

    def _settings_changed(self, fault: Fault) -> str:
        self._reload(self._stage.settings(fault.choice))
        time.sleep(fault.lasts)
        return f"form {fault.choice % 6}"

    def _settings_wrong(self, fault: Fault) -> None:
        self._reload(self._stage.settings() | WRONG)
        time.sleep(fault.lasts)
        self._reload(self._stage.settings(fault.choice))

    def _reload(self, settings: Mapping[str, Any]) -> None:
        """A daemon that is about to start reads the file anyway, and does not know the signal yet."""
        self._pod.configure(settings)
        if self._pod.status() is not None:
            self._pod.signal(signal.SIGHUP, self._pod.pid)


def _last(said: str) -> str:
    """Of what a program says: one line is what an error has, and of a traceback it is the last."""
    return (said.strip().splitlines() or ["without a word"])[-1]
