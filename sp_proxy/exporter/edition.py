"""What becomes of the records of one generation of workers, up to payloads: batch → redact and encode → destinations.

Settings that change at run time concern redaction and rules together: what a wider rule lets in may be what a new redaction
rule is for. So the records of workers that were started with earlier settings have an edition of their own until the last
of these workers ends. They are redacted as when those settings were in force, and after that as the present ones say.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import trio

from sp_proxy import regex
from sp_proxy.addons import stage
from sp_proxy.addons.process import CapturePlan
from sp_proxy.addons.source import AddonFile
from sp_proxy.addons.stage import AddonPool, Worked, capture_plans
from sp_proxy.core.batching import Batch, BatchLimits
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.redact.stricter import Stricter
from sp_proxy.core.redaction import Redaction
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.batch import BatchStage
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.destinations import Destination
from sp_proxy.exporter.encode import Encoded, Encoder, Form
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.exporter.keeping import Keeper
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.stats import IntakeLedger
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import redaction_config

BEHIND_SECONDS = 1.0
"""Workers have had to wait for so long: addons that nothing depends on are left out until they need not."""
ENCODING_FACTOR = 4
"""Bytes that encoding a batch takes beside its content: spans, the request, its parts joined, the compressed one."""


class Content:
    """What is sent of a record. Raises ValueError, one line for a person, for settings that cannot be used."""

    def __init__(self, settings: SettingsModel, addons: Sequence[AddonFile] | None = None) -> None:
        """``addons``: their files, where they have been read."""
        self.redaction: RedactionConfig = redaction_config(settings)
        self.redactor = Redactor(self.redaction, regex)
        self.max_body_size = settings.capture.max_body_size
        self.tags = settings.tags
        self.addons = capture_plans(settings.addons, addons)
        """Hooks that see a record before it is redacted."""

    def same_as(self, other: "Content") -> bool:
        """Whether nothing would be sent differently."""
        one, two = ((each.redaction, each.max_body_size, each.tags, each.addons) for each in (self, other))
        return one == two

    def masking(self, also: "Content | None" = None) -> Redaction:
        """The redaction, and another one's after it if that differs."""
        same = also is None or also.redaction == self.redaction
        return self.redactor if also is None or same else Stricter(self.redactor, also.redactor)

    def encoder(self, also: Redaction | None = None) -> SpanEncoder:
        """An encoder of spans, with another redaction after this one's."""
        redaction = self.redactor if also is None else Stricter(self.redactor, also)
        return SpanEncoder(decode_body, max_body_size=self.max_body_size, tags=self.tags, redaction=redaction)


class Edition:
    """``take`` gets records, ``run`` makes payloads of them. One batch is encoded at a time, over all editions."""

    def __init__(
        self,
        content: Content,
        limits: BatchLimits,
        encoding: trio.Lock,
        ledger: IntakeLedger,
        keeper: Keeper,
        addons: AddonPool | None = None,
    ) -> None:
        self.content = content
        self._addons = addons or AddonPool()
        self._blocked_since = float("inf")
        self.batches = BatchStage(limits)
        self.channels: set[WorkerChannel] = set()
        self.encoding_bytes = 0
        """What encoding takes for the moment."""
        self.worked_bytes = 0
        """What hooks have made of the batch that is being worked on, beside the batch itself."""
        self._encoding = encoding
        self._ledger = ledger
        self._keeper = keeper
        self._log = SparingLog()
        self._spans = content.encoder()
        self._superseded_by: Content | None = None
        self._scope = trio.CancelScope()
        self._encoder: Encoder | None = None
        self._takers: list[list[Destination]] = []

    def send_to(self, destinations: Sequence[Destination], max_request_bytes: int) -> None:
        """Payloads go to these from now on, one or more."""
        forms: list[Form] = []
        for destination in destinations:
            if destination.form not in forms:
                forms.append(destination.form)
        self._takers = [[each for each in destinations if each.form == form] for form in forms]
        self._encoder = Encoder(self._spans.encode_span, forms, max_request_bytes=max_request_bytes)

    def change(self, content: Content) -> None:
        """Its workers go on, and what is sent of their records is this from now on. ``send_to`` must follow."""
        if not content.same_as(self.content):
            self.content = content
            self._spans = content.encoder()

    def supersede(self, content: Content) -> None:
        """Other workers have taken over, with this content: nothing is sent that either would not send. ``send_to``
        must follow.
        """
        if self._superseded_by is None or not content.same_as(self._superseded_by):
            self._superseded_by = content
            same = content.redaction == self.content.redaction
            self._spans = self.content.encoder(None if same else content.redactor)

    @property
    def superseded(self) -> bool:
        """Other workers have taken over."""
        return self._superseded_by is not None

    @property
    def addons(self) -> tuple[CapturePlan, ...]:
        """The hooks that see its records: its own, and after these the present ones."""
        later = self._superseded_by.addons if self._superseded_by else ()
        return tuple(dict.fromkeys((*self.content.addons, *later)))

    async def run(self, on_settled: Callable[[], None]) -> None:
        """Work until closed or cancelled."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keeper.keep, "batch", self.batches.run_age_limit)
                nursery.start_soon(self._keeper.keep, "encode", partial(self._encode_all, on_settled))

    def close(self) -> None:
        """Nothing comes any more, and nothing is left: have ``run`` end."""
        self._scope.cancel()

    async def _encode_all(self, on_settled: Callable[[], None]) -> None:
        while True:
            batch = await self.batches.next()
            plans = self.addons
            try:
                worked = await self._work(plans, Worked(batch.exchanges))
                async with self._encoding:
                    while others := [each for each in self.addons if each not in plans]:
                        # Settings have changed meanwhile: what is sent is what they say.
                        plans = (*plans, *others)
                        worked = await self._work(others, worked)
                    await self._encode(batch, worked)
            finally:
                self.worked_bytes = 0
            on_settled()

    async def _work(self, plans: Sequence[CapturePlan], worked: Worked) -> Worked:
        """Call hooks with what earlier ones have left."""
        if not plans:
            return worked
        now = trio.current_time()
        self._blocked_since = min(self._blocked_since, now) if self.batches.blocked else float("inf")
        behind = now - self._blocked_since > BEHIND_SECONDS
        masking = self.content.masking(self._superseded_by)
        try:
            processes = self._addons.processes(plans)
            return await stage.work(processes, worked, masking, only_required=behind, holds=self._hold)
        except Exception as error:  # noqa: BLE001 (a fault of our own: nobody knows what of it may be sent)
            self._log.fault("addons_failed", error, records_dropped=len(worked.exchanges))
            lost = Counter(worked.lost)
            lost["internal_error"] += len(worked.exchanges)
            return Worked([], lost, worked.added)

    def _hold(self, size: int) -> None:
        self.worked_bytes = size

    async def _encode(self, batch: Batch, worked: Worked) -> None:
        encoder, takers = self._encoder, self._takers
        assert encoder is not None
        self.encoding_bytes = ENCODING_FACTOR * max(batch.size, self.worked_bytes)
        try:
            # In a thread, as it takes milliseconds and compression lets others run meanwhile.
            encoded = await trio.to_thread.run_sync(encoder.encode, worked.exchanges, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001 (a fault of our own costs this batch, not the daemon)
            self._log.fault("encode_failed", error, records_dropped=len(worked.exchanges))
            encoded = Encoded([], {"internal_error": len(worked.exchanges)})
        finally:
            self.encoding_bytes = 0
        # From here on without an await: the records change hands in the books.
        self.batches.settle(batch)
        self._ledger.captured += worked.added
        for cause, records in worked.lost.items():
            self._ledger.drop(cause, records)
        for payloads, destinations in zip(encoded.forms, takers, strict=False):
            for payload in payloads:
                for destination in destinations:
                    destination.append(payload)
        for reason, records in encoded.lost.items():
            self._ledger.drop(reason, records)
            self._log.warning("records_lost_in_encoding", reason=reason, records_dropped=records)
