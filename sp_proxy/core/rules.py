"""Collection rules, exemption rules and what is never captured (contract sections 1 and 2): one decision.

Patterns are searched anywhere, in the request target with its query and in the authority, with its port and without
it. Both are bytes on the wire and patterns are text: they are matched as UTF-8, the encoding in which a configuration
is written, with undecodable bytes as lone surrogates, so every target can be matched and none fails. (Latin-1 would
never match a non-ASCII letter of a pattern in a target which carries it as UTF-8.)

A decision is asked for at every request of the relay. What depends on method, target and authority alone is
remembered; what depends on header fields comes after that, as searches in the field block (``filters.py``).
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from sp_proxy.core.exchange import Direction
from sp_proxy.core.filters import (
    INGRESS_GATEWAY,
    has_telling_field,
    is_from_ingress_gateway,
    is_prefetch,
    is_prefetch_target,
    is_static_response,
    is_static_target,
)
from sp_proxy.core.memo import Memo

MAX_CACHED: Final = 2048
"""Requests whose decision is remembered; with the limit below, at most about 3 MiB."""
MAX_CACHED_LENGTH: Final = 768
"""Longer targets and authorities together are decided anew each time: a client must not be able to fill memory."""


class RuleConfig(Struct, frozen=True, array_like=True):
    """One collection rule, plain data; empty parts match everything."""

    host: str = ""
    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    exclude: bool = False


class ExemptionConfig(Struct, frozen=True, array_like=True):
    """One exemption rule, plain data; empty parts match everything."""

    host_patterns: tuple[str, ...] = ()
    path_patterns: tuple[str, ...] = ()


class PolicyConfig(Struct, frozen=True, array_like=True):
    """What the supervisor sends a worker so that it can decide."""

    capture_enabled: bool = True
    collect_inbound: bool = True
    collect_outbound: bool = True
    server_rules: tuple[RuleConfig, ...] = ()
    client_rules: tuple[RuleConfig, ...] = ()
    exemptions: tuple[ExemptionConfig, ...] = ()
    skip_static: bool = True
    skip_prefetch: bool = True
    skip_ingress_gateway: bool = True
    service_name: str = ""
    """This workload's own name: the ingress gateway itself is left alone too (``skip_ingress_gateway``)."""


class Decision(Struct, frozen=True):
    """Whether to capture an exchange and to inject headers into its request, and why.

    ``reason`` is a metric label: ``captured``, or why not: ``disabled``, ``exempt``, ``direction_off``, ``static``,
    ``prefetch``, ``excluded``, ``no_rule``, ``ingress_gateway``. ``rule`` names the rule that decided
    (``server[0]``, ``client[2]``, ``exemption[0]``); empty where none did.
    """

    capture: bool
    inject: bool
    reason: str
    rule: str = ""

    @property
    def counter(self) -> str:
        """What counts requests that were decided so."""
        return f"requests:{self.reason}:{self.rule}" if self.rule else f"requests:{self.reason}"


DISABLED: Final = Decision(capture=False, inject=True, reason="disabled")
DIRECTION_OFF: Final = Decision(capture=False, inject=True, reason="direction_off")
STATIC: Final = Decision(capture=False, inject=True, reason="static")
PREFETCH: Final = Decision(capture=False, inject=True, reason="prefetch")
NO_RULE: Final = Decision(capture=False, inject=True, reason="no_rule")
CAPTURED_WITHOUT_RULES: Final = Decision(capture=True, inject=True, reason="captured")
LEFT_ALONE: Final = Decision(capture=False, inject=False, reason="ingress_gateway")

Search = Callable[[str], object]
"""Whether a pattern matches anywhere in a text: anything that is true for yes."""
Compile = Callable[[str], Search]
"""Raises ValueError, with the reason, for what is no pattern."""
Patterns = tuple[Search, ...]


class _Selector(Struct, frozen=True):
    """One compiled entry: all given parts must match, and within a part any pattern."""

    decision: Decision
    hosts: Patterns = ()
    targets: Patterns = ()
    methods: frozenset[bytes] = frozenset()

    def matches(self, method: bytes, target: str, authorities: tuple[str, ...]) -> bool:
        """Whether the entry selects this request."""
        if self.methods and method.upper() not in self.methods:
            return False
        if self.targets and not any(search(target) for search in self.targets):
            return False
        return not self.hosts or any(search(text) for search in self.hosts for text in authorities)


def standard(pattern: str) -> Search:
    """The standard library's engine, which a bad pattern can make hang; ``sp_proxy/patterns.py`` has a better one."""
    try:
        return re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _compile(engine: Compile, place: str, patterns: Iterable[str]) -> Patterns:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(engine(pattern))
        except ValueError as error:
            raise ValueError(f"{place}: {pattern!r} is not a regular expression ({error})") from error
    return tuple(compiled)


def _selector(engine: Compile, place: str, rule: RuleConfig) -> _Selector:
    return _Selector(
        decision=Decision(
            capture=not rule.exclude, inject=True, reason="excluded" if rule.exclude else "captured", rule=place
        ),
        hosts=_compile(engine, place, (rule.host,) if rule.host else ()),
        targets=_compile(engine, place, rule.paths),
        methods=frozenset(method.strip().upper().encode() for method in rule.methods),
    )


def _exemption(engine: Compile, place: str, exemption: ExemptionConfig) -> _Selector:
    return _Selector(
        decision=Decision(capture=False, inject=True, reason="exempt", rule=place),
        hosts=_compile(engine, place, exemption.host_patterns),
        targets=_compile(engine, place, exemption.path_patterns),
    )


def without_port(authority: str) -> str:
    """The authority without its port (RFC 3986 section 3.2.3), brackets of an IPv6 address kept; itself if none.

    A bare IPv6 address, which no authority may be but some clients send, has no port to take away.
    """
    host, colon, port = authority.rpartition(":")
    if not colon or (port and not (port.isascii() and port.isdigit())):
        return authority
    return authority if ":" in host and not host.endswith("]") else host


class Policy:
    """The compiled configuration. Raises ValueError naming the place and the pattern that does not compile."""

    def __init__(self, config: PolicyConfig, engine: Compile = standard) -> None:
        server = [_selector(engine, f"server[{index}]", rule) for index, rule in enumerate(config.server_rules)]
        client = [_selector(engine, f"client[{index}]", rule) for index, rule in enumerate(config.client_rules)]
        self._exemptions = [
            _exemption(engine, f"exemption[{index}]", rule) for index, rule in enumerate(config.exemptions)
        ]
        self._without_rules = not server and not client
        # Exclusions first: one that matches wins over every other entry, wherever it stands.
        self._selectors = {
            Direction.INBOUND: sorted(server, key=lambda selector: selector.decision.capture),
            Direction.OUTBOUND: sorted(client, key=lambda selector: selector.decision.capture),
        }
        self._enabled = config.capture_enabled
        self._collected = {Direction.INBOUND: config.collect_inbound, Direction.OUTBOUND: config.collect_outbound}
        self._skip_static = config.skip_static
        self._skip_prefetch = config.skip_prefetch
        self._skip_ingress_gateway = config.skip_ingress_gateway
        self._is_ingress_gateway = config.skip_ingress_gateway and INGRESS_GATEWAY.decode() in config.service_name
        self._cache: Memo[tuple[Direction, bytes, bytes, bytes], Decision] = Memo(MAX_CACHED, MAX_CACHED_LENGTH)

    def request(
        self, direction: Direction, method: bytes, target: bytes, authority: bytes, lower_fields: bytes
    ) -> Decision:
        r"""What to do with a request.

        ``lower_fields`` is the lower-cased field block of its head with a leading CRLF
        (``b"\r\nhost: a\r\naccept: */*\r\n"``).
        """
        key = (direction, method, target, authority)
        decision = self._cache.get(key)
        if decision is None:
            decision = self._decide(direction, method, target, authority)
            self._cache.keep(key, decision, len(method) + len(target) + len(authority))
        if has_telling_field(lower_fields) is None:
            return decision
        if self._skip_ingress_gateway and is_from_ingress_gateway(lower_fields):
            return LEFT_ALONE
        if decision.capture and self._skip_prefetch and is_prefetch(lower_fields):
            return PREFETCH
        return decision

    def response(self, lower_fields: bytes) -> str:
        """Why not to keep an exchange after all, from the response's field block (shaped as in ``request``).

        Empty to keep it.
        """
        return "static" if self._skip_static and is_static_response(lower_fields) else ""

    def _decide(self, direction: Direction, method: bytes, target: bytes, authority: bytes) -> Decision:
        """All that does not depend on header fields. Exemptions win over every rule, exclusions over other rules."""
        if self._is_ingress_gateway:
            return LEFT_ALONE
        if not self._enabled:
            return DISABLED
        text = target.decode("utf-8", "surrogateescape")
        with_port = authority.decode("utf-8", "surrogateescape")
        bare = without_port(with_port)
        authorities = (with_port,) if bare == with_port else (with_port, bare)
        for exemption in self._exemptions:
            if exemption.matches(method, text, authorities):
                return exemption.decision
        if not self._collected[direction]:
            return DIRECTION_OFF
        if self._skip_static and is_static_target(target):
            return STATIC
        if self._skip_prefetch and is_prefetch_target(target):
            return PREFETCH
        if self._without_rules:
            return CAPTURED_WITHOUT_RULES
        for selector in self._selectors[direction]:
            if selector.matches(method, text, authorities):
                return selector.decision
        return NO_RULE
