"""From a recorded exchange to the request that is sent, or why it is not (pure: new ids are passed in).

Not sent again: fields of one connection (RFC 9110 section 7.6.1), framing, which the sender makes anew, a content coding
that was undone when the body was captured, and what belongs to the recorded trace. The trace context is new: one trace for
each recorded one, so what the target captures of a replay joins as the recording did.
"""

import re
from collections.abc import Callable
from hashlib import blake2b
from urllib.parse import quote, urlsplit

from msgspec import Struct

from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.recorded import TOKEN, VALUE, Recorded, can_be_sent, still_coded
from sp_proxy.replay.secrets import Secret, fill

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that ask for no change (RFC 9110 section 9.2.1). The idempotent ones, PUT and DELETE, do: once is enough."""
OF_ONE_CONNECTION = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("content-length", "host", "http2-settings", "proxy-authenticate", "proxy-authorization"),
    )
)
_OF_ONE_TRACE = re.compile(r"traceparent|tracestate|x-sp-.*|sp_session_id|x-service-name|x-current-service|x-debug-.*")
_NO_ASCII = re.compile(r"[^\x00-\x7f]+")
_TARGET = re.compile(r"/[^\x00-\x20\x7f#]*")


class Changes(Struct, frozen=True):
    """How requests are changed, beside what always is."""

    to: str
    """Scheme, host, and what stands before every path: no slash at its end."""
    unsafe: bool = False
    """Send what may change something too."""
    keep_host: bool = False
    """Send the recorded ``Host``."""
    drop: frozenset[str] = frozenset()
    """Lower-case names of fields."""
    set: tuple[tuple[str, str], ...] = ()
    """Fields that are set, whatever was recorded."""
    secrets: tuple[Secret, ...] = ()


class Request(Struct, frozen=True):
    """A request as it goes out. The sender adds its framing."""

    method: str
    origin: str
    """Scheme and host."""
    target: str
    fields: tuple[tuple[str, str], ...]
    """``host`` first."""
    body: bytes


class Skipped(Struct, frozen=True):
    """It is not sent, for this reason."""

    reason: str


def changes(
    to: str,
    *,
    unsafe: bool = False,
    keep_host: bool = False,
    drop: tuple[str, ...] = (),
    set_fields: tuple[str, ...] = (),
    secrets: tuple[Secret, ...] = (),
) -> Changes:
    """Checked, from texts as a command line has them. Raises ReplayError."""
    return Changes(
        base_of("--to", to),
        unsafe,
        keep_host,
        frozenset(_name("--drop-header", each) for each in drop),
        tuple(_field(each) for each in set_fields),
        secrets,
    )


def base_of(option: str, url: str) -> str:
    """An ``http`` or ``https`` URL without a slash at its end. Raises ReplayError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        parts.port  # noqa: B018 (raises ValueError)
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ReplayError(f"{option}: found {url[:200]!r}; allowed: http:// or https://, a host, and no user or query")
    return url.rstrip("/")


def _name(option: str, name: str) -> str:
    name = name.strip().lower()
    if not TOKEN.fullmatch(name):
        raise ReplayError(f"{option}: found {name[:64]!r}; allowed: the name of a header field")
    return name


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name = _name("--set-header", name)
    if not colon or not VALUE.fullmatch(value):
        raise ReplayError(f"--set-header {name}: allowed: NAME: VALUE")
    if name in OF_ONE_CONNECTION - {"host"}:
        raise ReplayError(f"--set-header {name}: belongs to the connection, which is made anew")
    return name, value.strip()


class Preparer:
    """Makes requests of recorded exchanges."""

    def __init__(
        self, wanted: Changes, placeholders: Placeholders, *, run: str, new_span_id: Callable[[], str]
    ) -> None:
        """``run`` names this replay, in the ids of traces and sessions; ``new_span_id`` gives 16 hex digits."""
        self._wanted = wanted
        self._placeholders = placeholders
        self._run = run
        self._new_span_id = new_span_id
        self._to = urlsplit(wanted.to)

    def prepare(self, recorded: Recorded, carried: Callable[[str], str] = str) -> Request | Skipped:
        """The request. ``carried`` gives a text of the recording as it is to be in this run (``carry.py``)."""
        if reason := recorded.response_missing or recorded.request_flaw:
            return Skipped(reason)
        if recorded.method not in SAFE and not self._wanted.unsafe:
            return Skipped(f"{recorded.method[:32]} may change something: sent with --unsafe only")
        if not TOKEN.fullmatch(recorded.method) or recorded.method == "CONNECT":
            return Skipped("its method cannot be sent")
        target = _path_of(recorded.target)
        if not _TARGET.fullmatch(target):
            return Skipped("its target cannot be sent")
        fields = tuple((name, carried(value)) for name, value in self._kept(recorded))
        body = recorded.request_body
        if body and not still_coded(recorded.request_fields):
            body = _carried_body(body, carried)
        filled = fill(carried(target), fields, body, self._wanted.secrets, self._placeholders)
        # What --set-header gives needs no secret.
        given = dict(self._wanted.set)
        if filled.lacking and not (filled.lacking.startswith("the field ") and filled.lacking.split()[2] in given):
            return Skipped(f"redacted: {filled.lacking}")
        for name, value in filled.fields:
            if not can_be_sent(name, value):
                return Skipped(f"the field {name[:64]!r} cannot be sent")
        host = recorded.host if self._wanted.keep_host else self._to.netloc
        head = [("host", given.get("host", host))]
        head += [(name, value) for name, value in filled.fields if name not in given]
        head += [(name, value) for name, value in given.items() if name != "host"]
        head += self._trace_context(recorded)
        origin = f"{self._to.scheme}://{self._to.netloc}"
        whole = self._to.path + filled.target
        if not whole.isascii():
            whole = _NO_ASCII.sub(lambda found: quote(found[0]), whole)
        return Request(recorded.method, origin, whole, tuple(head), filled.body)

    def _kept(self, recorded: Recorded) -> list[tuple[str, str]]:
        named = dict(recorded.request_fields).get("connection", "")
        gone = {*OF_ONE_CONNECTION, *self._wanted.drop, *(each.strip().lower() for each in named.split(","))}
        if not still_coded(recorded.request_fields):
            gone.add("content-encoding")
        return [
            (name, value)
            for name, value in recorded.request_fields
            if name not in gone and not _OF_ONE_TRACE.fullmatch(name)
        ]

    def _trace_context(self, recorded: Recorded) -> list[tuple[str, str]]:
        trace = blake2b(f"{self._run} {recorded.trace_id}".encode(), digest_size=16).hexdigest()
        session = blake2b(f"{self._run} {recorded.group}".encode(), digest_size=6).hexdigest()
        return [
            ("traceparent", f"00-{trace}-{self._new_span_id()}-01"),
            ("tracestate", f"x-sp-session-id=replay-{self._run}-{session}"),
        ]


def _path_of(target: str) -> str:
    """A target in absolute form (to a proxy) in origin form."""
    if "://" not in target.partition("?")[0]:
        return target
    parts = urlsplit(target)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _carried_body(body: bytes, carried: Callable[[str], str]) -> bytes:
    try:
        return carried(body.decode()).encode()
    except UnicodeDecodeError:
        return body
