"""The capture hooks of an edition, one after the other over a batch, before redaction and encoding.

Redaction has the last word: it stands behind, so what a hook adds or leaves is masked like what was captured. What no rule of
redaction looks at in a record (the service's name, labels of metrics) is masked here when a hook has set it.
"""

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

from msgspec import Struct, structs

from sp_proxy.addons.process import AddonProcess, CapturePlan
from sp_proxy.addons.source import AddonFile, read_hooks
from sp_proxy.addons.tally import AddonStats, Tally
from sp_proxy.addons.wire import Changed
from sp_proxy.core.batching import content_size
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.redaction import Redaction, RedactionError
from sp_proxy.settings.addons import Addons

Lost = Literal["addon_dropped", "addon_failed", "internal_error"]
"""Why a record is not sent (``DropReason``)."""


class Worked(Struct, frozen=True):
    """What hooks have made of a batch."""

    exchanges: list[Exchange]
    lost: Mapping[Lost, int] = {}
    added: int = 0
    """Records that were split off."""


def capture_plans(addons: Addons, files: Iterable[AddonFile] | None = None) -> tuple[CapturePlan, ...]:
    """The capture hooks that settings name, in their order. ``files`` are all addons, where they have been read (and checked: what
    is run is then what was checked). Raises AddonError, which is a ValueError.
    """
    if files is None:
        files = read_hooks(addons.files, addons.directory)
    return tuple(
        CapturePlan(file, addons.call_budget, addons.batch_budget, addons.max_memory)
        for file in files
        if "exchange" in file.hooks
    )


class AddonPool:
    """The processes of all editions: one for each different hook. What is counted is an addon's, by its name: it goes on when
    the file changes, and of two that run side by side, for workers with earlier settings, there is one account.
    """

    def __init__(self) -> None:
        self._processes: dict[CapturePlan, AddonProcess] = {}
        self._tallies: dict[str, Tally] = {}

    def processes(self, plans: Iterable[CapturePlan]) -> list[AddonProcess]:
        """Those of these hooks."""
        return [self._processes.get(plan) or self._made(plan) for plan in dict.fromkeys(plans)]

    def keep(self, plans: Iterable[CapturePlan]) -> None:
        """End all others."""
        wanted = set(plans)
        for plan in [each for each in self._processes if each not in wanted]:
            self._processes.pop(plan).retire()
        names = {plan.file.name for plan in wanted}
        self._tallies = {name: tally for name, tally in self._tallies.items() if name in names}

    @property
    def answered_bytes(self) -> int:
        """What hooks have answered so far to the batches that they work on."""
        return sum(process.answered_bytes for process in self._processes.values())

    def stats(self) -> tuple[AddonStats, ...]:
        """Of each addon, in the order of their calls; its state is that of its newest process."""
        return tuple({each.name: each.stats() for each in self._processes.values()}.values())

    def _made(self, plan: CapturePlan) -> AddonProcess:
        made = self._processes[plan] = AddonProcess(plan)
        made.tally = self._tallies.setdefault(made.name, made.tally)
        return made


async def work(
    processes: Sequence[AddonProcess],
    worked: Worked,
    redaction: Redaction,
    *,
    only_required: bool = False,
    holds: Callable[[int], None] = lambda _: None,
) -> Worked:
    """Call each hook with what the one before has left. ``holds`` is told how many bytes of content there are when a hook has
    changed something.
    """
    lost: Counter[Lost] = Counter(worked.lost)
    added, exchanges = worked.added, worked.exchanges
    for process in processes:
        required = process.plan.file.required
        if not exchanges:
            break
        if only_required and not required:
            process.tally.skipped += len(exchanges)
            continue
        outcome = await process.work(exchanges, partial(_masked, redaction))
        after: list[Exchange] = []
        for place, (exchange, made) in enumerate(zip(exchanges, outcome.made, strict=True)):
            if required and place in outcome.missed:
                lost["addon_failed"] += 1
            elif made is None:
                after.append(exchange)
            elif not made:
                lost["addon_dropped"] += 1
                process.tally.dropped += 1
            else:
                after += [applied(exchange, each, redaction, again=bool(at)) for at, each in enumerate(made)]
                added += len(made) - 1
                process.tally.added += len(made) - 1
        exchanges = after
        if any(made is not None for made in outcome.made):
            holds(sum(map(content_size, exchanges)))
    return Worked(exchanges, lost, added)


def applied(exchange: Exchange, change: Changed, redaction: Redaction, *, again: bool) -> Exchange:
    """The record with what a hook may change of it. ``again``: it is one more, with a span id of its own."""
    address = change.client_address if _is_address(change.client_address) else exchange.client_address
    service = change.service_name
    if service != exchange.service_name:
        service = _masked(redaction, "x-sp-service-name", service.decode("utf-8", "replace")).encode()
    span_id, early = exchange.span_id, exchange.partial
    if again:
        # Not for secrets: ids.
        span_id = random.getrandbits(64).to_bytes(8)
        early = early and structs.replace(early, span_id=random.getrandbits(64).to_bytes(8))
    return structs.replace(
        exchange,
        span_id=span_id,
        partial=early,
        service_name=service,
        target=change.target,
        authority=change.authority,
        client_address=address,
        name=change.name,
        tags=change.tags,
        request_fields=change.request_fields,
        request_body=change.request_body,
        request_body_size=_size(change.request_body_size),
        response_fields=change.response_fields,
        response_body=change.response_body,
        response_body_size=_size(change.response_body_size),
    )


def _masked(redaction: Redaction, name: str, value: str) -> str:
    try:
        return redaction.header(name, value) or ""
    except RedactionError:
        return ""


def _is_address(text: str) -> bool:
    if not text:
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _size(size: int) -> int:
    return min(max(0, size), 1 << 62)
