"""The redirect rules in the kernel, and the daemon's heartbeat that they wait for."""

from collections.abc import Iterator

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.netfilter import pulse
from sp_proxy.netfilter.install import compare, feel_pulse
from sp_proxy.netfilter.pulse import Pulse
from sp_proxy.netfilter.rules import NetfilterError, Ruleset
from sp_proxy.settings.model import SettingsModel

AREA = Area("rules")
HEARTBEAT = Area("heartbeat")
_NOT_PERMITTED = "not permitted"


def examine(settings: SettingsModel, *, runs: bool) -> Iterator[Finding]:
    """``runs``: a daemon answers. Sends nothing, but waits for a heartbeat."""
    if settings.listen.inbound is None and settings.listen.outbound is None:
        yield AREA.ok("none are needed: no listener takes redirected connections")
        return
    try:
        ruleset, problems, writers = compare(settings)
    except NetfilterError as error:
        if _NOT_PERMITTED in str(error):
            yield AREA.skip("they cannot be read", "run this as root, or in a pod with NET_ADMIN: docs/netfilter.md")
        else:
            yield AREA.fail(str(error), "docs/netfilter.md")
        return
    yield from judge(problems, writers, len(ruleset.rules))
    if not problems and ruleset.heartbeat is not None:
        yield judge_pulse(ruleset, feel_pulse(ruleset), runs=runs)


def judge(problems: list[str], writers: tuple[str, ...], count: int) -> Iterator[Finding]:
    """From what differs."""
    if not writers:
        yield AREA.fail("none in the kernel: nothing is redirected", "sp-proxy netfilter apply, as root")
    elif problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield AREA.fail(f"not as the settings say: {problems[0]}{more}", "sp-proxy netfilter apply, as root")
    else:
        yield AREA.ok(f"{count} in the kernel, written by {writers[0]}, as the settings say")


def judge_pulse(ruleset: Ruleset, found: Pulse, *, runs: bool) -> Finding:
    """From whether heartbeats arrive."""
    seconds = pulse.timeout_seconds(ruleset)
    rule = ruleset.heartbeat
    user = rule.match.users[0] if rule else 0
    match found:
        case Pulse.STEADY:
            return HEARTBEAT.ok(f"arrives; {seconds} s after the last one, connections go straight")
        case Pulse.MISSING:
            return HEARTBEAT.fail(
                "does not arrive, so nothing is redirected",
                f"the daemon hangs, does not run as user {user}, or has another netfilter.heartbeat",
            )
        case _ if runs:
            return HEARTBEAT.fail(
                "nobody listens where the rules redirect to, so nothing is redirected",
                "the daemon has other ports than these settings: see configuration",
            )
        case _:
            return HEARTBEAT.ok("none: no daemon runs, and connections go straight")
