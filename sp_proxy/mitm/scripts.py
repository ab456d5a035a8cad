"""Flow scripts: operators' addons for mitmproxy's own API, unchanged, for the hosts that each of them claims.

Each script is added to mitmproxy's addon manager, which loads its options and commands. Its events are called by us, around
``Capture``: what is recorded is what was forwarded. Bodies of claimed flows are held whole for the scripts, up to
``MAX_HELD``; event streams and what is longer pass as they come, and scripts see such a message without its body.

A script that raises costs its own effect. One that blocks the loop is interrupted after ``stuck_after``, and after
``MAX_STUCK`` times in a row it is called no more.
"""

import inspect
import types
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterator
from types import ModuleType
from typing import Any, Final

import structlog
from mitmproxy.addonmanager import traverse
from mitmproxy.http import HTTPFlow, Message
from mitmproxy.master import Master

from sp_proxy.addons.loading import TooSlowError, fault_of, line_of, load, time_limit
from sp_proxy.addons.source import FLOW_EVENTS
from sp_proxy.mitm.capture import block
from sp_proxy.mitm.config import FlowScriptConfig
from sp_proxy.mitm.http1 import HIDDEN_EXPECT
from sp_proxy.mitm.live import Connections
from sp_proxy.mitm.script_options import one_line, set_options
from sp_proxy.patterns import compile_pattern
from sp_proxy.taps.claims import Claims
from sp_proxy.taps.open_exchange import OpenExchange

MAX_HELD: Final = 16 << 20
"""Bytes of a body that is held for scripts."""
MAX_STUCK: Final = 3
HEADS: Final = ("requestheaders", "responseheaders")
"""Events at which scripts are called behind ``Capture``, and at all others before it."""
BODIES: Final = tuple(name for name in FLOW_EVENTS if name not in HEADS)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Tee = Callable[[bytes], Any]


class Script:
    """One script and the hosts that it claims."""

    def __init__(self, config: FlowScriptConfig, master: Master) -> None:
        """Raises whatever its file, ``load`` or ``configure`` raises."""
        self.name = config.name
        self.path = config.path
        self.claims = Claims(config.hosts, compile_pattern)
        self.module: ModuleType = load(config.name, config.path, config.text)
        if not isinstance(getattr(self.module, "name", None), str):
            self.module.__dict__["name"] = config.path
        master.addons.add(self.module)  # type: ignore[no-untyped-call]
        self.master = master
        self.stuck = 0
        self.logged: set[tuple[str, int]] = set()

    def handlers(self, event: str) -> Iterator[Callable[..., Any]]:
        """Its own, and those of its ``addons``."""
        if self.stuck >= MAX_STUCK:
            return
        for addon in traverse([self.module]):  # type: ignore[no-untyped-call]
            handler = getattr(addon, event, None)
            if callable(handler) and not isinstance(handler, ModuleType):
                yield handler


class Scripts:
    """All of them."""

    def __init__(
        self,
        configs: tuple[FlowScriptConfig, ...],
        stuck_after: float,
        master: Master,
        connections: Connections,
        counters: defaultdict[str, int],
    ) -> None:
        """Raises ValueError, one line for a person, for a script that cannot be loaded, or has no such options."""
        self._stuck_after = stuck_after
        self._connections = connections
        self._counters = counters
        others = frozenset(master.options.keys())  # type: ignore[no-untyped-call]
        self._scripts = [_made(each, master) for each in configs]
        self._held: dict[str, tuple[Tee | None, Tee | None]] = {}
        wants_messages = any(any(each.handlers(event)) for each in self._scripts for event in FLOW_EVENTS[5:])
        master.options.update(  # type: ignore[no-untyped-call]
            stream_large_bodies=str(MAX_HELD), websocket=wants_messages
        )
        set_options(configs, master.options, others)

    async def running(self) -> None:
        """The worker serves from now on."""
        await self._tell_all("running")

    async def done(self) -> None:
        """It ends."""
        await self._tell_all("done")

    # ---- behind Capture

    async def requestheaders(self, flow: HTTPFlow) -> None:
        """Hold the body for the scripts; then they are called."""
        if not (scripts := self._claiming(flow)):
            return
        tee = _hold(flow.request)
        self._held[flow.id] = (tee, None)
        await self._call(scripts, "requestheaders", flow)
        _pass_to(flow.request, tee)

    async def responseheaders(self, flow: HTTPFlow) -> None:
        """Likewise."""
        scripts, response = self._claiming(flow), flow.response
        if not scripts or response is None:
            return
        tee = None if response.headers.get("content-type", "").startswith("text/event-stream") else _hold(response)
        self._held[flow.id] = (self._held.pop(flow.id, (None, None))[0], tee)
        await self._call(scripts, "responseheaders", flow)
        _pass_to(response, tee)

    # ---- before Capture

    async def request(self, flow: HTTPFlow) -> None:
        """A request is complete: the scripts, then what goes on is recorded."""
        if not (scripts := self._claiming(flow)):
            return
        tee = self._held.pop(flow.id, (None, None))[0]
        await self._call(scripts, "request", flow)
        exchange = self._exchange(flow)
        request = flow.request
        if exchange is None:
            return
        exchange.method, exchange.target = request.data.method, request.data.path
        authority = request.data.authority or request.headers.get("host", "").encode("utf-8", "surrogateescape")
        exchange.authority = authority or exchange.authority
        if exchange.capture:
            exchange.request_fields = block(request.headers.fields)[2:]
        if tee is not None and not request.stream and request.raw_content:
            tee(request.raw_content)

    async def response(self, flow: HTTPFlow) -> None:
        """A response is complete, or a script has made one."""
        scripts, response = self._claiming(flow), flow.response
        if not scripts or response is None:
            return
        tee = self._held.pop(flow.id, (None, None))[1]
        await self._call(scripts, "response", flow)
        exchange, response = self._exchange(flow), flow.response
        if exchange is None or response is None:
            return
        fields = block(response.headers.fields)
        if not exchange.status:  # no response has come: it is a script's
            began = int(response.timestamp_start * 1e9)
            exchange.begin_response(began, response.status_code, fields[2:], "")
            tee = _tee_response(exchange)
        elif exchange.capture:
            exchange.status, exchange.response_fields = response.status_code, fields[2:]
        if tee is not None and not response.stream and response.raw_content:
            tee(response.raw_content)

    async def error(self, flow: HTTPFlow) -> None:
        """A flow has failed."""
        self._held.pop(flow.id, None)
        await self._call(self._claiming(flow), "error", flow)

    async def websocket_start(self, flow: HTTPFlow) -> None:
        """A WebSocket connection begins."""
        await self._call(self._claiming(flow), "websocket_start", flow)

    async def websocket_message(self, flow: HTTPFlow) -> None:
        """A message has come: the last of ``flow.websocket.messages``. Earlier ones are forgotten: they would be kept for ever."""
        await self._call(self._claiming(flow), "websocket_message", flow)
        if flow.websocket is not None:
            del flow.websocket.messages[:-1]

    async def websocket_end(self, flow: HTTPFlow) -> None:
        """It ends."""
        await self._call(self._claiming(flow), "websocket_end", flow)

    # ---- what they share

    def _claiming(self, flow: HTTPFlow) -> list[Script]:
        request = flow.request
        return [each for each in self._scripts if each.claims.covers(request.pretty_host)]

    def _exchange(self, flow: HTTPFlow) -> OpenExchange | None:
        live = self._connections.get(flow.client_conn.id)
        return live.exchanges.get(flow.id) if live is not None else None

    async def _call(self, scripts: list[Script], event: str, flow: HTTPFlow) -> None:
        for script in scripts:
            for handler in script.handlers(event):
                await self._guarded(script, handler, flow)

    async def _tell_all(self, event: str) -> None:
        for script in self._scripts:
            for handler in script.handlers(event):
                await self._guarded(script, handler)

    async def _guarded(self, script: Script, handler: Callable[..., Any], *given: Any) -> None:
        try:
            with time_limit(self._stuck_after):
                made = handler(*given)
            if inspect.isawaitable(made):
                await _limited(made, self._stuck_after)
        except Exception as error:  # noqa: BLE001  # a script's fault costs what it would have done
            self._tell(script, error)
        except (SystemExit, KeyboardInterrupt, TooSlowError) as error:
            script.stuck += isinstance(error, TooSlowError)
            self._tell(script, error)
            if script.stuck == MAX_STUCK:
                consequence = "it is called no more by this mitm worker"
                log.error("addon_blocks", addon=script.name, consequence=consequence)  # noqa: TRY400
        else:
            script.stuck = 0
            self._counters[f"script_calls:{script.name}"] += 1

    def _tell(self, script: Script, error: BaseException) -> None:
        """Name the line, once; what an exception says may be captured content."""
        self._counters[f"script_faults:{script.name}"] += 1
        fault = fault_of(error, script.path)
        key = (fault.kind, fault.line)
        if key not in script.logged and len(script.logged) < 100:
            script.logged.add(key)
            log.error("addon_fault", addon=script.name, kind=fault.kind, place=f"{script.path}:{fault.line}")


def _made(config: FlowScriptConfig, master: Master) -> Script:
    try:
        return Script(config, master)
    except (Exception, SystemExit) as error:
        place = f"{config.path}:{line_of(error.__traceback__, config.path) or getattr(error, 'lineno', None) or 1}"
        raise ValueError(f"{place}: {type(error).__name__}: {one_line(error)}") from error


@types.coroutine
def _limited(made: Awaitable[Any], seconds: float) -> Generator[Any, Any, Any]:
    """Await it, each of its steps within the time limit: between two of them the loop serves the others."""
    steps: Any = made.__await__()
    step, given = steps.send, None
    while True:
        try:
            with time_limit(seconds):
                waits_for = step(given)
        except StopIteration as end:
            return end.value
        try:
            step, given = steps.send, (yield waits_for)
        except BaseException as error:  # noqa: BLE001  # cancelled, for example: its own affair
            step, given = steps.throw, error


def _hold(message: Message) -> Tee | None:
    """Have a body held, if it is not too long; what records it."""
    tee = message.stream
    length = message.headers.get("content-length", "0")
    if not callable(tee) or not length.isdigit() or int(length) > MAX_HELD or HIDDEN_EXPECT.decode() in message.headers:
        return None
    message.stream = False
    return tee


def _pass_to(message: Message, tee: Tee | None) -> None:
    """A script has asked for the body in pieces: record what it makes of them."""
    theirs = message.stream
    if tee is None or not theirs:
        return

    def both(data: bytes) -> bytes:
        made = theirs(data) if callable(theirs) else data
        joined = made if isinstance(made, bytes) else b"".join(made)
        tee(joined)
        return joined

    message.stream = both


def _tee_response(exchange: OpenExchange) -> Tee:
    def tee(data: bytes) -> None:
        exchange.tee_response(data, 0, len(data))

    return tee
