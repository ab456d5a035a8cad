"""Sees that the configuration file has changed, and tells when it has settled.

By looking once a second, not by inotify: its instances are few for each user and shared by all containers of a node, it does
not see network file systems, and a Kubernetes ConfigMap changes by a symbolic link elsewhere in the path. A look is one
``stat``, 5 µs.
"""

from collections.abc import Awaitable, Callable

import trio
from msgspec import Struct

from sp_proxy.settings.source import Look, Source

IDLE_SECONDS = 1.0
"""Between two questions whether to look at all."""


class Timing(Struct, frozen=True):
    """Seconds."""

    interval: float
    """Between two looks."""
    settle: float
    """For which the file must have been the same."""


async def watch(source: Source, timing: Callable[[], Timing | None], changed: Callable[[], Awaitable[object]]) -> None:
    """Call ``changed`` when the content of the file is another one than was loaded last, until cancelled.

    ``timing`` is asked before each look; None: do not look. A file that is gone is waited for: editors replace a file by another.
    """
    seen = source.look()
    since = trio.current_time()
    checked: Look = ()  # the first look is a real one: the file may have changed since it was loaded
    while True:
        wanted = timing()
        await trio.sleep(wanted.interval if wanted else IDLE_SECONDS)
        if wanted is None:
            continue
        now = source.look()
        if now != seen:
            seen, since = now, trio.current_time()
        if not seen or seen == checked or trio.current_time() - since < wanted.settle:
            continue
        checked = seen
        if (content := source.content()) and content != source.digest:
            await changed()
