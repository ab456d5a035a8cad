"""Waiting for whichever of several things happens first."""

import math

import trio


async def first_of(*events: trio.Event, timeout: float = math.inf) -> bool:  # noqa: ASYNC109  # a time to look again
    """Wait until one of them happens, for so many seconds at most. Whether one has."""
    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(_cancel_after, event, nursery.cancel_scope)
    return any(event.is_set() for event in events)


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
