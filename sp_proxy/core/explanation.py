"""Why a request is captured or not, step by step, for a person (pure): what ``rules.Policy`` decides, told at length.

The decision itself is the policy's own, never made a second time here; the steps are read from the configuration in the
order in which the policy goes. The two are held together by a property test: the step that decides names the decision.
"""

from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from sp_proxy.core.exchange import Direction
from sp_proxy.core.filters import (
    INGRESS_GATEWAY,
    is_from_ingress_gateway,
    is_prefetch,
    is_prefetch_target,
    is_static_response,
    is_static_target,
)
from sp_proxy.core.rules import (
    Compile,
    Decision,
    ExemptionConfig,
    Policy,
    PolicyConfig,
    RuleConfig,
    standard,
    without_port,
)

Verdict = Literal["decides", "passes", "not_asked"]
"""``passes``: it had nothing to say; ``not_asked``: the decision was made before."""


class Request(Struct, frozen=True):
    """What a decision is made of, as on the wire."""

    direction: Direction
    method: bytes
    target: bytes
    authority: bytes
    lower_fields: bytes = b"\r\n"
    r"""The lower-cased field block with a leading CRLF."""
    response_fields: bytes | None = None
    """The response's, likewise; None when there is none to look at."""


class Part(Struct, frozen=True):
    """One part of a rule. All parts of a rule must match, and within a part any pattern."""

    name: Literal["host", "path", "method"]
    patterns: tuple[str, ...]
    matched: str | None
    """The pattern that matched; None if none did."""
    texts: tuple[str, ...]
    """What the patterns were searched in."""


class Step(Struct, frozen=True):
    """One thing that was looked at."""

    place: str
    """A rule as in ``Decision.rule``, or the setting's key."""
    verdict: Verdict
    why: str
    """For a person, a few words."""
    parts: tuple[Part, ...] = ()


class Explanation(Struct, frozen=True):
    """The decision with everything that was looked at, in order."""

    decision: Decision
    """``capture`` is False too where the response was the reason."""
    steps: tuple[Step, ...]


class _Look(Struct):
    """A step before it is known whether anybody asks it: ``deciding`` is why it decides, empty if it does not."""

    place: str
    deciding: str
    passing: str
    parts: tuple[Part, ...] = ()


def explain(config: PolicyConfig, request: Request, engine: Compile = standard) -> Explanation:
    """Raises ValueError, as ``Policy`` does, for a pattern that is none."""
    decision = Policy(config, engine).request(
        request.direction, request.method, request.target, request.authority, request.lower_fields
    )
    steps = []
    decided = False
    for look in _looks(config, request, engine):
        if decided:
            steps.append(Step(look.place, "not_asked", "decided before", _unasked(look.parts)))
        elif look.deciding:
            decided = True
            steps.append(Step(look.place, "decides", look.deciding, look.parts))
        else:
            steps.append(Step(look.place, "passes", look.passing, look.parts))
    # What the response says is asked last, of what is captured until then.
    if request.response_fields is not None:
        place = "capture.skip_static (response)"
        if not decision.capture:
            steps.append(Step(place, "not_asked", "not captured in any case"))
        elif config.skip_static and is_static_response(request.response_fields):
            steps = [
                Step(each.place, "passes", each.why, each.parts) if each.verdict == "decides" else each
                for each in steps
            ]
            steps.append(Step(place, "decides", "the response's content type is that of a static resource"))
            decision = Decision(capture=False, inject=decision.inject, reason="static")
        else:
            steps.append(Step(place, "passes", "no static resource" if config.skip_static else "is false"))
    return Explanation(decision, tuple(steps))


def _looks(config: PolicyConfig, request: Request, engine: Compile) -> Iterator[_Look]:
    """In the order in which the policy's words win: fields of the head overrule some of what was decided without them."""
    ours = config.skip_ingress_gateway and INGRESS_GATEWAY.decode() in config.service_name
    sent = config.skip_ingress_gateway and is_from_ingress_gateway(request.lower_fields)
    yield _Look(
        "capture.skip_ingress_gateway",
        "this is the ingress gateway itself" if ours else "sent by Istio's ingress gateway" if sent else "",
        "not from the ingress gateway" if config.skip_ingress_gateway else "is false",
    )
    yield _Look("capture.enabled", "" if config.capture_enabled else "is false", "is true")
    for index, exemption in enumerate(config.exemptions):
        yield _rule(f"exemption[{index}]", _exemption_parts(engine, exemption, request), "exempt: never captured")
    collected = config.collect_inbound if request.direction is Direction.INBOUND else config.collect_outbound
    yield _Look(
        "traffic_direction",
        "" if collected else f"{request.direction} exchanges are not collected",
        f"{request.direction} exchanges are collected",
    )
    yield _Look(
        "capture.skip_static",
        "the path ends like a static resource" if config.skip_static and is_static_target(request.target) else "",
        "no static resource" if config.skip_static else "is false",
    )
    prefetch = is_prefetch_target(request.target) or is_prefetch(request.lower_fields)
    # A field tells a prefetch only of what would be captured: of what would not, the rules have the last word.
    captured = prefetch and (is_prefetch_target(request.target) or _rules_capture(config, request, engine))
    yield _Look(
        "capture.skip_prefetch",
        "a framework's prefetch" if config.skip_prefetch and captured else "",
        "is false"
        if not config.skip_prefetch
        else "a prefetch, but not captured in any case"
        if prefetch
        else "no prefetch",
    )
    yield from _rules(config, request, engine)


def _rules(config: PolicyConfig, request: Request, engine: Compile) -> Iterator[_Look]:
    server = request.direction is Direction.INBOUND
    rules = config.server_rules if server else config.client_rules
    if not config.server_rules and not config.client_rules:
        yield _Look("collectionRules", "there are no collection rules: everything is captured", "")
        return
    side = "server" if server else "client"
    for index, rule in sorted(enumerate(rules), key=lambda each: not each[1].exclude):
        says = "excluded, whatever other rules say" if rule.exclude else "captured"
        yield _rule(f"{side}[{index}]", _rule_parts(engine, rule, request), says)
    yield _Look(
        "collectionRules",
        f"no rule for {request.direction} exchanges matches"
        if rules
        else f"there are collection rules, but none for {request.direction} exchanges",
        "",
    )


def _rules_capture(config: PolicyConfig, request: Request, engine: Compile) -> bool:
    decided = next((look for look in _rules(config, request, engine) if look.deciding), None)
    return decided is not None and (decided.deciding == "captured" or not (config.server_rules or config.client_rules))


def _rule(place: str, parts: tuple[Part, ...], says: str) -> _Look:
    if not parts:
        return _Look(place, f"{says} (without a condition, it matches everything)", "")
    failing = [part.name for part in parts if part.matched is None]
    return _Look(place, "" if failing else says, f"{' and '.join(failing)} did not match", parts)


def _rule_parts(engine: Compile, rule: RuleConfig, request: Request) -> tuple[Part, ...]:
    parts = []
    if rule.methods:
        method = request.method.decode("utf-8", "replace").upper()
        names = tuple(name.strip().upper() for name in rule.methods)
        parts.append(Part("method", names, method if method in names else None, (method,)))
    return (*parts, *_patterns(engine, rule.paths, (rule.host,) if rule.host else (), request))


def _exemption_parts(engine: Compile, exemption: ExemptionConfig, request: Request) -> tuple[Part, ...]:
    return tuple(_patterns(engine, exemption.path_patterns, exemption.host_patterns, request))


def _patterns(engine: Compile, paths: tuple[str, ...], hosts: tuple[str, ...], request: Request) -> Iterator[Part]:
    if hosts:
        authority = request.authority.decode("utf-8", "surrogateescape")
        texts = tuple(dict.fromkeys((authority, without_port(authority))))
        yield Part("host", hosts, _first(engine, hosts, texts), texts)
    if paths:
        texts = (request.target.decode("utf-8", "surrogateescape"),)
        yield Part("path", paths, _first(engine, paths, texts), texts)


def _first(
    engine: Callable[[str], Callable[[str], object]], patterns: tuple[str, ...], texts: tuple[str, ...]
) -> str | None:
    return next((pattern for pattern in patterns if any(engine(pattern)(text) for text in texts)), None)


def _unasked(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(Part(part.name, part.patterns, None, ()) for part in parts)
