"""What becomes of the records of one generation of workers, up to payloads: batch → redact and encode → destinations.

Settings that change at run time concern redaction and rules together: what a wider rule lets in may be what a new redaction
rule is for. So the records of workers that were started with earlier settings have an edition of their own until the last
of these workers ends. They are redacted as when those settings were in force, and after that as the present ones say.
"""

from collections.abc import Callable, Sequence
from functools import partial

import trio

from sp_proxy import regex
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

ENCODING_FACTOR = 4
"""Bytes that encoding a batch takes beside its content: spans, the request, its parts joined, the compressed one."""


class Content:
    """What is sent of a record. Raises ValueError, one line for a person, for settings that cannot be used."""

    def __init__(self, settings: SettingsModel) -> None:
        self.redaction: RedactionConfig = redaction_config(settings)
        self.redactor = Redactor(self.redaction, regex)
        self.max_body_size = settings.capture.max_body_size
        self.tags = settings.tags

    def same_as(self, other: "Content") -> bool:
        """Whether nothing would be sent differently."""
        return (self.redaction, self.max_body_size, self.tags) == (other.redaction, other.max_body_size, other.tags)

    def encoder(self, also: Redaction | None = None) -> SpanEncoder:
        """An encoder of spans, with another redaction after this one's."""
        redaction = self.redactor if also is None else Stricter(self.redactor, also)
        return SpanEncoder(decode_body, max_body_size=self.max_body_size, tags=self.tags, redaction=redaction)


class Edition:
    """``take`` gets records, ``run`` makes payloads of them. One batch is encoded at a time, over all editions."""

    def __init__(
        self, content: Content, limits: BatchLimits, encoding: trio.Lock, ledger: IntakeLedger, keeper: Keeper
    ) -> None:
        self.content = content
        self.batches = BatchStage(limits)
        self.channels: set[WorkerChannel] = set()
        self.encoding_bytes = 0
        """What encoding takes for the moment."""
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
            async with self._encoding:
                await self._encode(batch)
            on_settled()

    async def _encode(self, batch: Batch) -> None:
        encoder, takers = self._encoder, self._takers
        assert encoder is not None
        self.encoding_bytes = ENCODING_FACTOR * batch.size
        try:
            # In a thread, as it takes milliseconds and compression lets others run meanwhile.
            encoded = await trio.to_thread.run_sync(encoder.encode, batch.exchanges, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001 (a fault of our own costs this batch, not the daemon)
            self._log.fault("encode_failed", error, records_dropped=len(batch.exchanges))
            encoded = Encoded([], {"internal_error": len(batch.exchanges)})
        finally:
            self.encoding_bytes = 0
        # From here on without an await: the records change hands in the books.
        self.batches.settle(batch)
        for payloads, destinations in zip(encoded.forms, takers, strict=False):
            for payload in payloads:
                for destination in destinations:
                    destination.append(payload)
        for reason, records in encoded.lost.items():
            self._ledger.drop(reason, records)
            self._log.warning("records_lost_in_encoding", reason=reason, records_dropped=records)
