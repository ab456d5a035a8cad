"""What ``verify`` says of a probe, and of the daemon's heartbeat. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from sp_proxy.netfilter import pulse
from sp_proxy.netfilter.probes import Answer
from sp_proxy.netfilter.pulse import Pulse
from sp_proxy.netfilter.rules import Redirect, Refuse, Rule, Ruleset


class Verdict(StrEnum):
    """The first word of a line."""

    OK = "ok"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Result:
    """One probe."""

    verdict: Verdict
    line: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.line}"


def judge(rule: Rule, *, counted: bool, others: str, answer: Answer, line: str, listening: bool = False) -> Result:
    """What a probe has shown.

    ``others`` names the rules that counted something, for the case that ours did not; ``listening``: the daemon does.
    """
    if not counted:
        found = f"counted at: {others}" if others else "no rule counted it"
        return Result(Verdict.FAIL, f"{line}: expected: {rule.action} ({rule.reason}); {found}")
    match rule.action, answer:
        case Redirect(port), Answer.CONNECTED:
            return Result(Verdict.OK, f"{line}: redirected to port {port}, which answered")
        case Redirect(port), Answer.REFUSED:
            refused = "which handed on a refusal" if listening else "where nothing listens yet"
            return Result(Verdict.OK, f"{line}: redirected to port {port}, {refused}")
        case Redirect(port), _:
            text = f"redirected to port {port}, but {answer} came from there: is a firewall in between (docs/hosts.md)?"
            return Result(Verdict.FAIL, f"{line}: {text}")
        case Refuse(), Answer.REFUSED | Answer.UNREACHABLE:
            return Result(Verdict.OK, f"{line}: refused ({rule.reason}), as expected")
        case Refuse(), _:
            return Result(Verdict.FAIL, f"{line}: expected: refused ({rule.reason}); {answer} came")
        case _:
            return Result(Verdict.OK, f"{line}: bypassed ({rule.reason}), as expected")


def judge_pulse(ruleset: Ruleset, found: Pulse) -> Result | None:
    """What is to be said about the heartbeat."""
    rule = ruleset.heartbeat
    if rule is None:
        return None
    ports = " and ".join(map(str, pulse.redirect_ports(ruleset)))
    seconds = pulse.timeout_seconds(ruleset)
    match found:
        case Pulse.STEADY:
            return Result(Verdict.OK, f"heartbeat arrives; {seconds} s after the last one, nothing is redirected")
        case Pulse.MISSING:
            text = (
                f"heartbeat does not arrive, so nothing is redirected: port {ports} is open, but user "
                f"{rule.match.users[0]} sends nothing to port {rule.match.ports[0]}: the daemon hangs, is another user, "
                "or has another netfilter.heartbeat"
            )
            return Result(Verdict.FAIL, text)
        case _:
            text = f"heartbeat none: nothing listens on port {ports}, so nothing is redirected yet; the probes send their own"
            return Result(Verdict.SKIP, text)
