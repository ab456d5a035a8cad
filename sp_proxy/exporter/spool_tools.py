"""What ``sp-proxy spool`` does with spools: find, verify, read and send them, without a daemon.

Looking takes no lock, so it can be done beside a running daemon; sending does.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import trio
from msgspec import Struct

from sp_proxy.core.spool_index import Entry
from sp_proxy.exporter.destinations import Destination
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.routes import World, make_route, plans, spool_directories
from sp_proxy.exporter.spool_files import DamagedError, damaged, read, scan
from sp_proxy.exporter.spool_queue import SpoolQueue
from sp_proxy.exporter.stats import DestinationStats
from sp_proxy.settings.model import SettingsModel


class SpoolView(Struct, frozen=True):
    """A spool as it is found."""

    directory: Path
    exporter: str
    """Name of the exporter in the settings that it belongs to; empty when none does."""
    entries: list[Entry]
    set_aside: int
    """Damaged files."""


def find(settings: SettingsModel, environ: Mapping[str, str]) -> list[SpoolView]:
    """All spools in their place, also those of exporters that the settings know no more. Raises OSError."""
    known = {directory: name for name, directory in spool_directories(settings, environ).items()}
    roots = sorted({directory.parent for directory in known})
    directories = [
        path for root in roots if root.is_dir() for path in sorted(root.iterdir()) if (path / "lock").exists()
    ]
    return [
        SpoolView(directory, known.get(directory, ""), scan(directory).entries, sum(1 for _ in damaged(directory)))
        for directory in directories
    ]


def contents(view: SpoolView) -> Iterator[tuple[Entry, Payload | str]]:
    """Each entry with its content, or what is wrong with it. What a daemon has sent meanwhile is left out."""
    for entry in view.entries:
        try:
            yield entry, read(view.directory, entry)
        except DamagedError as error:
            if any(entry.sequence == still.sequence for still in scan(view.directory).entries):
                yield entry, str(error)
        except OSError as error:
            yield entry, error.strerror or str(error)


async def send(
    settings: SettingsModel,
    environ: Mapping[str, str],
    *,
    seconds: float,
    clock: Callable[[], float],
    randomness: Callable[[], float],
) -> list[DestinationStats]:
    """Upload what the spools of the configured exporters hold; ends when they are empty, when no destination takes
    any more, or after ``seconds``. What was not sent stays.

    The ``spool.problem`` of an exporter says when its spool could not be opened. Raises ValueError for settings that
    cannot be used, and OSError where nobody can look for spools.
    """
    on_disk = settings.spool.model_copy(update={"mode": "overflow"})
    settings = settings.model_copy(update={"spool": on_disk})
    directories = spool_directories(settings, environ)
    news = trio.Event()

    def settled() -> None:
        news.set()  # whichever event it is by then

    world = World(clock, randomness)
    destinations = [
        Destination(make_route(settings, plan, world, directories[plan.name]), world, on_settled=settled)
        for plan in plans(settings, environ)
        if plan.name in directories and directories[plan.name].is_dir()
    ]
    deadline = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for destination in destinations:
            nursery.start_soon(destination.run)
            destination.drain(deadline)
        for destination in destinations:
            assert isinstance(destination.outlet.queue, SpoolQueue)
            await destination.outlet.queue.looked.wait()
        with trio.move_on_at(deadline):
            while any(destination.active_records for destination in destinations):
                await news.wait()
                news = trio.Event()
        nursery.cancel_scope.cancel()
    return [destination.stats() for destination in destinations]
