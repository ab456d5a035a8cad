"""The look-up's client, in the mitm worker's asyncio loop: one question, one answer, within a deadline.

What goes wrong is an outcome, never an exception: then the request goes to its destination. When several in a row went wrong nobody
is asked for a while, so that a dead backend does not cost every request the deadline.
"""

import asyncio
from collections.abc import Callable
from enum import Enum

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sp_proxy.core.breaker import Breaker, BreakerPolicy
from sp_proxy.inject.config import InjectConfig
from sp_proxy.inject.http import AnswerError, HttpClient
from sp_proxy.inject.wire import Stored, read_answer

MAX_ANSWER = 2 << 20
"""Bytes of an answer: both bodies at the capture limit's default, some ten times over. A longer one is unreadable."""
QUESTIONS = 64
"""At a time; further requests go to their destination. With the limit above, 128 MiB are held at most."""
PROTOBUF = "application/x-protobuf"
_PAUSE = BreakerPolicy(initial_interval=5.0, max_interval=5.0)


class Outcome(Enum):
    """Why there is no stored answer. The values are labels of a metric."""

    MISS = "miss"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """An error status of whoever was asked."""
    UNREADABLE = "unreadable"
    LEFT_ALONE = "left_alone"
    """Not asked, since so many failed, or are being asked."""


class Asker:
    """Asks. ``clock``: seconds, as of ``time.monotonic``."""

    def __init__(self, config: InjectConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._breaker = Breaker(_PAUSE)
        fields = {"content-type": PROTOBUF, "accept": PROTOBUF}
        if config.public_key:
            fields["x-public-key"] = config.public_key
        if config.token:
            fields["authorization"] = f"Bearer {config.token}"
        self._client = HttpClient(config.url, fields, max_answer=MAX_ANSWER, ca_file=config.ca_file)
        self._asking = 0

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, question: bytes) -> Stored | Outcome:
        """The stored answer, or why there is none. Cancelled when its request is."""
        if self._asking >= QUESTIONS or self._breaker.wait(self._clock()):
            return Outcome.LEFT_ALONE
        self._asking += 1
        try:
            async with asyncio.timeout(self._config.timeout):
                outcome = _read(*await self._client.post(question))
        except TimeoutError:
            outcome = Outcome.TIMEOUT
        except AnswerError:
            outcome = Outcome.UNREADABLE
        except OSError:
            outcome = Outcome.UNREACHABLE
        except BaseException:
            self._breaker.lost_probe()
            raise
        finally:
            self._asking -= 1
        if outcome in {Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.REFUSED}:
            self._breaker.failed(self._clock())
        else:
            self._breaker.succeeded()
        return outcome


def _read(status: int, body: bytes) -> Stored | Outcome:
    if status == 404:
        return Outcome.MISS
    if status != 200:
        return Outcome.REFUSED
    try:
        stored = read_answer(ExportTraceServiceRequest.FromString(body))
    except DecodeError:
        return Outcome.UNREADABLE
    return stored or Outcome.UNREADABLE
