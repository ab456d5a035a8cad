"""What a capture hook is called with: ``def exchange(ex)``. Its docstrings are the reference of ``docs/addons.md``."""

from typing import Final
from urllib.parse import parse_qsl

from sp_proxy.addons.message import Message
from sp_proxy.addons.wire import LABEL, MAX_COPIES, METRIC, Changed, Emitted, add_tag, clean
from sp_proxy.core.exchange import Exchange


class CapturedExchange:
    """One request with its response, after both have passed. What is written here changes what is sent of it, never the
    traffic. Whatever a hook adds passes through redaction afterwards, like all that was captured.
    """

    def __init__(self, record: Exchange, emitted: list[Emitted], place: int = 0) -> None:
        self._record = record
        self._emitted = emitted
        self.place = place
        self._messages: tuple[Message, Message] | None = None
        self._target = record.target
        self._authority = record.authority
        self._service = record.service_name
        self.client_address = record.client_address
        """Address of the client. Settable, to an IP address or to nothing."""
        self.name = record.name
        """Name of the span; empty: the path. Settable: ``GET /users/{id}``."""
        self._tags = dict(record.tags)
        self.dropped = False
        """``drop`` was called."""

    # ---- what it was

    @property
    def direction(self) -> str:
        """``inbound`` (this workload was asked) or ``outbound`` (it asked)."""
        return str(self._record.direction)

    @property
    def method(self) -> str:
        """``GET``."""
        return self._record.method.decode("latin-1")

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return self._record.scheme

    @property
    def protocol_version(self) -> str:
        """``1.0``, ``1.1`` or ``2``."""
        return self._record.protocol_version

    @property
    def status(self) -> int:
        """Of the response; 0 when there was none."""
        return self._record.status

    @property
    def error(self) -> str:
        """Why it did not end as its protocol says (``client_aborted``, ``upstream_unreachable``, …); mostly empty."""
        return self._record.error

    @property
    def rule(self) -> str:
        """The collection rule that selected it, as ``server[0]``; empty without rules."""
        return self._record.rule

    @property
    def start(self) -> float:
        """When the request began, in seconds of unix time."""
        return self._record.start_unix_ns / 1e9

    @property
    def duration(self) -> float:
        """Seconds from the request's first byte to the response's last."""
        return self._record.duration_ns / 1e9

    @property
    def time_to_first_byte(self) -> float | None:
        """Seconds to the response's first byte; None without a response."""
        return self._record.ttfb_ns / 1e9 if self._record.ttfb_ns >= 0 else None

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self._record.trace_id.hex()

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self._record.span_id.hex()

    @property
    def session_id(self) -> str:
        """Of the session that it belongs to."""
        return self._record.session_id.decode("utf-8", "replace")

    @property
    def server_address(self) -> str:
        """Address of the server."""
        return self._record.server_address

    @property
    def server_port(self) -> int:
        """Port of the server."""
        return self._record.server_port

    @property
    def ongoing(self) -> bool:
        """It has not ended: the same exchange comes a second time when it has (``capture.partial_after``)."""
        return self._record.partial is not None and self._record.partial.ongoing

    # ---- what can be changed

    @property
    def request(self) -> Message:
        """The request: ``headers``, ``content``, ``text``, ``json()``, ``set_json(…)``, ``size``, ``complete``."""
        return self._both()[0]

    @property
    def response(self) -> Message:
        """The response, likewise; empty without one."""
        return self._both()[1]

    @property
    def path(self) -> str:
        """The request target with its query: ``/orders?id=3``. Settable."""
        return self._target.decode("utf-8", "replace")

    @path.setter
    def path(self, path: str) -> None:
        self._target = _line(path)

    @property
    def query(self) -> dict[str, str]:
        """The parameters in ``path``; of one that is there several times the last."""
        return dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True))

    @property
    def host(self) -> str:
        """``Host`` or ``:authority``. Settable."""
        return self._authority.decode("utf-8", "replace")

    @host.setter
    def host(self, host: str) -> None:
        self._authority = _line(host)

    @property
    def service_name(self) -> str:
        """The service that it is counted to. Settable."""
        return self._service.decode("utf-8", "replace")

    @service_name.setter
    def service_name(self, name: str) -> None:
        self._service = _line(name)

    # ---- what can be done

    @property
    def tags(self) -> dict[str, str]:
        """The tags so far, those of request hooks included: a copy."""
        return dict(self._tags)

    def tag(self, name: str, value: object) -> None:
        """Add the attribute ``sp.tag.NAME``. A name has letters, digits, ``_``, ``.`` and ``-``; a tag of the settings
        with this name stays as it is. At most 32 tags, values of 1024 characters.
        """
        add_tag(self._tags, name, value)

    def drop(self) -> None:
        """Do not send it. It is counted as dropped by an addon."""
        self.dropped = True

    def copy(self) -> "CapturedExchange":
        """Another one like it is now. A hook that returns a list has these sent in its place (32 at most), each as a span
        of its own: ``return [one, two]``.
        """
        other = CapturedExchange(self._record, self._emitted, self.place)
        other.client_address, other.name = self.client_address, self.name
        other._target, other._authority, other._service = self._target, self._authority, self._service
        other._tags = dict(self._tags)
        if self._messages is not None:
            other._messages = (self._messages[0].copy(), self._messages[1].copy())
        return other

    def count(self, name: str, amount: float = 1, **labels: object) -> None:
        """Add to the counter ``sp_proxy_addon_NAME_total`` in ``/metrics``, with these labels and ``addon``."""
        self._emit(name, float(amount), 0, labels)

    def observe(self, name: str, value: float, **labels: object) -> None:
        """Add a value to ``sp_proxy_addon_NAME``: its number (``_count``) and sum (``_sum``) are in ``/metrics``."""
        self._emit(name, float(value), 1, labels)

    # ---- for the host

    @property
    def is_changed(self) -> bool:
        """Whether anything of it is another one than in the record."""
        return self.changed() != unchanged(self._record, self.place)

    def changed(self) -> Changed:
        """What goes on in the record's place."""
        record = self._record
        both = self._messages
        request = (
            both[0].parts() if both else (record.request_fields, bytes(record.request_body), record.request_body_size)
        )
        response = (
            both[1].parts()
            if both
            else (record.response_fields, bytes(record.response_body), record.response_body_size)
        )
        tags = tuple(self._tags.items())
        return Changed(
            self.place,
            self._service,
            self._target,
            self._authority,
            clean(self.client_address),
            clean(self.name),
            tags,
            *request,
            *response,
        )

    def _both(self) -> tuple[Message, Message]:
        if self._messages is None:
            x = self._record
            self._messages = (
                Message(x.request_fields, bytes(x.request_body), x.request_body_size),
                Message(x.response_fields, bytes(x.response_body), x.response_body_size),
            )
        return self._messages

    def _emit(self, name: str, amount: float, observations: int, labels: dict[str, object]) -> None:
        if not METRIC.fullmatch(name):
            raise ValueError("the name of a metric has 1 to 64 small letters, digits and _")
        if not all(LABEL.fullmatch(each) and each != "addon" for each in labels) or len(labels) > 8:
            raise ValueError("at most 8 labels, of small letters, digits and _; addon is taken")
        if not amount >= 0 or amount == float("inf"):
            raise ValueError("an amount is a number from 0")
        laid = tuple(sorted((each, clean(value)) for each, value in labels.items()))
        self._emitted.append(Emitted(name, laid, amount, observations))


def unchanged(record: Exchange, place: int) -> Changed:
    """A record as a change that changes nothing."""
    x = record
    return Changed(
        place,
        x.service_name,
        x.target,
        x.authority,
        x.client_address,
        x.name,
        x.tags,
        x.request_fields,
        bytes(x.request_body),
        x.request_body_size,
        x.response_fields,
        bytes(x.response_body),
        x.response_body_size,
    )


WRONG_RETURN: Final = (
    f"wrong return value (allowed: None, or a list of ex and its copies, each once, {MAX_COPIES} at most)"
)


class WrongReturnError(Exception):
    """A hook has returned what none may return: ``WRONG_RETURN``."""


def instead(ex: CapturedExchange, answer: object) -> list[CapturedExchange]:
    """What a hook wants to have sent in an exchange's place. Raises WrongReturnError for an answer that is none."""
    if answer is None:
        return [] if ex.dropped else [ex]
    if not isinstance(answer, list | tuple) or not all(isinstance(each, CapturedExchange) for each in answer):
        raise WrongReturnError
    if len(answer) > MAX_COPIES or any(each.place != ex.place for each in answer):
        raise WrongReturnError
    if len({id(each) for each in answer}) < len(answer):
        raise WrongReturnError
    return [each for each in answer if not each.dropped]


def _line(text: object) -> bytes:
    laid = str(text).encode("utf-8", "replace")
    if b"\r" in laid or b"\n" in laid or b"\0" in laid or len(laid) > 65536:
        raise ValueError("one line of at most 64 KiB")
    return laid
