"""The trial (pure): every captured exchange, decided anew by another configuration, and the sums of it.

Three things may become of an exchange: it stays, it would no longer be captured, or that cannot be told, since what decides was
redacted. What the configuration in force leaves out was never captured, so nothing can be said of it; rules that decided about
nothing here are named for that reason.
"""

from collections import Counter
from typing import Final

from msgspec import Struct

from sp_proxy.core.admission import Admission, AdmissionConfig
from sp_proxy.core.redact.config import REPLACEMENT
from sp_proxy.core.redaction import Redaction, RedactionError
from sp_proxy.core.rules import Compile, Policy, PolicyConfig
from sp_proxy.trial.captured import Captured, lower_block
from sp_proxy.trial.redactions import redactions

_SHOWN_REASONS: Final = {
    "disabled": "capture.enabled is false",
    "direction_off": "its direction is not collected (traffic_direction)",
    "static": "a static resource (capture.skip_static)",
    "prefetch": "a framework's prefetch (capture.skip_prefetch)",
    "no_rule": "no collection rule matches",
    "ingress_gateway": "from the ingress gateway (capture.skip_ingress_gateway)",
    "sampled_out": "its trace is not sampled (sampling.ratio)",
    "rate_limit": "over the limits (limits)",
}


class Group(Struct):
    """Exchanges with which the same happens for the same reason."""

    reason: str
    count: int = 0
    example: str = ""
    """One of them."""


class Result(Struct):
    """What the trial found."""

    looked_at: int = 0
    stay: int = 0
    lost: dict[str, Group] = {}
    """By reason, those that would no longer be captured."""
    unknown: dict[str, Group] = {}
    redacted: dict[str, Group] = {}
    """By place, what of those that stay would be taken out or changed beside what is taken out already."""
    unused: list[str] = []
    """Rules of the configuration that decided about nothing here."""
    unreadable: int = 0
    opens: list[str] | None = None
    """What the configuration in force leaves out and this one does not; None where that one was not given."""

    @property
    def differs(self) -> bool:
        """Whether anything would change, as far as it can be told."""
        return bool(self.lost or self.redacted or self.opens)


class _Ended(Struct, frozen=True):
    """What the limits need of an exchange: they are asked in the order in which exchanges end."""

    end_unix_ns: int
    trace_id: bytes
    rule: str
    failed: bool
    duration_ns: int
    size: int
    line: str
    redacted: tuple[str, ...]


class Trial:
    """Feed it exchanges, newest first; then ask for the result."""

    def __init__(
        self, policy: PolicyConfig, admission: AdmissionConfig, redaction: Redaction, engine: Compile, replacement: str
    ) -> None:
        """Raises ValueError for a pattern that is none. ``replacement`` is what stands for redacted texts."""
        self._policy = Policy(policy, engine)
        self._admission = Admission.make(admission)
        self._redaction = redaction
        self._marks = tuple({mark.encode() for mark in (replacement, REPLACEMENT) if mark})
        self._places = _places(policy)
        self._used: Counter[str] = Counter()
        self._ended: list[_Ended] = []
        self._result = Result()

    def add(self, captured: Captured) -> None:
        """Decide about an exchange."""
        result = self._result
        result.looked_at += 1
        if captured.direction is None:
            _count(result.unknown, "its direction is not known", captured.line)
            return
        fields = lower_block(captured.request_headers)
        decision = self._policy.request(
            captured.direction, captured.method, captured.target, captured.authority, fields
        )
        if decision.rule:
            self._used[decision.rule] += 1
        if self._places and any(mark in captured.target or mark in captured.authority for mark in self._marks):
            _count(result.unknown, "its address was redacted, and rules look at it", captured.line)
            return
        reason = "" if decision.capture else decision.reason
        if not reason and captured.answered:
            reason = self._policy.response(lower_block(captured.response_headers))
        if reason:
            _count(result.lost, self._said(reason, decision.rule), captured.line)
            return
        try:
            redacted = tuple(dict.fromkeys(redactions(captured, self._redaction)))
        except RedactionError:
            redacted = ("all of it: redaction fails, so the record is lost",)
        self._ended.append(
            _Ended(
                captured.start_unix_ns + captured.duration_ns,
                captured.trace_id,
                decision.rule,
                captured.failed,
                captured.duration_ns,
                captured.size,
                captured.line,
                redacted,
            )
        )

    def unreadable(self) -> None:
        """A line that is no exchange."""
        self._result.unreadable += 1

    def result(self) -> Result:
        """The sums; ends the trial."""
        result = self._result
        for each in sorted(self._ended, key=lambda ended: ended.end_unix_ns):
            reason = self._refusal(each)
            if reason:
                _count(result.lost, self._said(reason, each.rule), each.line)
                continue
            result.stay += 1
            for place in each.redacted:
                _count(result.redacted, place, each.line)
        result.unused = [place for place in self._places if place not in self._used]
        return result

    def _refusal(self, each: _Ended) -> str:
        if self._admission is None:
            return ""
        return self._admission.refuse(
            each.trace_id,
            each.rule,
            failed=each.failed,
            duration_ns=each.duration_ns,
            size=each.size,
            now_ns=each.end_unix_ns,
        )

    def _said(self, reason: str, rule: str) -> str:
        if reason == "rule_rate_limit":
            return f"over the limits of {rule}"
        if reason in {"exempt", "excluded"}:
            return f"{'exempt' if reason == 'exempt' else 'excluded'} by {rule}"
        return _SHOWN_REASONS.get(reason, reason)


def _places(policy: PolicyConfig) -> list[str]:
    """The rules, by the names that decisions have for them."""
    return [
        *(f"exemption[{index}]" for index, _ in enumerate(policy.exemptions)),
        *(f"server[{index}]" for index, _ in enumerate(policy.server_rules)),
        *(f"client[{index}]" for index, _ in enumerate(policy.client_rules)),
    ]


def _count(groups: dict[str, Group], reason: str, example: str) -> None:
    group = groups.setdefault(reason, Group(reason))
    group.count += 1
    group.example = group.example or example
