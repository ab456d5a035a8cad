"""The whole daemon with a fault planted in its exporter, which shows as long as the file FAULT_UNTIL exists.

FAULT names it:

- ``next``: the encoder's stage cannot take a batch
- ``append``: a payload cannot be put into its queue
- ``lease``: no payload can be taken from a queue
- ``keep``: the queue's own work (moving to disk, tidying) fails
- ``thread``: no thread can be started, wherever the exporter wants one
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from sp_proxy import logs
from sp_proxy.exporter.batch import BatchStage
from sp_proxy.exporter.queue import MemoryQueue
from sp_proxy.exporter.spool import Spool
from sp_proxy.exporter.spool_queue import SpoolQueue
from sp_proxy.settings.source import Source
from sp_proxy.supervisor.run import run

UNTIL = Path(os.environ["FAULT_UNTIL"])


def failing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with the fault."""

    def planted(*args: Any, **kwargs: Any) -> Any:
        if UNTIL.exists():
            raise RuntimeError("a planted fault")
        return function(*args, **kwargs)

    return planted


def plant(fault: str) -> None:
    match fault:
        case "next":
            BatchStage.next = failing(BatchStage.next)  # type: ignore[method-assign]
        case "append":
            MemoryQueue.append = failing(MemoryQueue.append)  # type: ignore[method-assign]
        case "lease":
            SpoolQueue.lease = failing(SpoolQueue.lease)  # type: ignore[method-assign]
        case "keep":
            Spool.tidy = failing(Spool.tidy)  # type: ignore[method-assign]
        case "thread":
            trio.to_thread.run_sync = failing(trio.to_thread.run_sync)  # type: ignore[assignment]
        case _:
            raise ValueError(fault)


def main() -> int:
    logs.configure("info", "json")
    plant(os.environ["FAULT"])
    source = Source(Path(sys.argv[1]), os.environ, {})
    return run(source.load(), source, os.environ)


if __name__ == "__main__":
    sys.exit(main())
