"""What the kernel allows: its version, the tools for rules, the table of connections, queues and descriptors."""

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.netfilter.system import Tools
from sp_proxy.supervisor.sockets import BACKLOG

AREA = Area("kernel")
OLDEST = (5, 4)
"""docs/netfilter.md: nat in inet tables."""
FEW_DESCRIPTORS = 8192
"""Each relayed connection takes two."""
FULL = 0.8
_SYS = Path("/proc/sys/net")


def judge_version(release: str) -> Finding:
    """From uname(2)."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else OLDEST
    if version < OLDEST:
        return AREA.warn(f"Linux {release} is older than 5.4", "use netfilter.writer: iptables, or a newer kernel")
    return AREA.ok(f"Linux {release}")


def judge_tools(tools: Tools) -> Finding:
    """What there is to write rules with."""
    names = (["nft"] if tools.nft else []) + sorted(tools.iptables)
    if not names:
        return AREA.warn(
            "neither nft nor iptables is installed here",
            "apt-get install nftables, where the rules are applied (an init container may do it)",
        )
    return AREA.ok(f"tools for rules: {', '.join(names)}")


def judge_limits(sys_net: Path = _SYS) -> Iterator[Finding]:
    """Of the kernel, as it is set up."""
    count = _number(sys_net / "netfilter" / "nf_conntrack_count")
    most = _number(sys_net / "netfilter" / "nf_conntrack_max")
    if count is not None and most:
        text = f"{count} of {most} connections are tracked"
        if count > FULL * most:
            yield AREA.fail(f"{text}: when the table is full, connections fail", "raise net.netfilter.nf_conntrack_max")
        else:
            yield AREA.ok(text)
    queue = _number(sys_net / "core" / "somaxconn")
    if queue is not None and queue < BACKLOG:
        yield AREA.warn(
            f"at most {queue} connections wait while a worker restarts (net.core.somaxconn)",
            f"sysctl -w net.core.somaxconn={BACKLOG}",
        )


def judge_descriptors(limit: int, whose: str) -> Finding:
    """``limit`` is the hard one, which the daemon makes use of."""
    if 0 <= limit < FEW_DESCRIPTORS:
        return AREA.warn(
            f"{whose} may have {limit} descriptors: {limit // 2} connections at most",
            "raise the hard limit (LimitNOFILE= of a systemd unit, ulimit -Hn)",
        )
    return AREA.ok(f"{whose} may have {limit if limit >= 0 else 'any number of'} descriptors")


def descriptor_limit(pid: int | None) -> tuple[int, str]:
    """The hard limit of a process, or of this one where that may not be seen; and whose it is."""
    if pid is not None:
        try:
            line = re.search(
                r"^Max open files +\S+ +(\S+)", Path(f"/proc/{pid}/limits").read_text("ascii"), re.MULTILINE
            )
        except OSError:
            line = None
        if line:
            return (-1 if line[1] == "unlimited" else int(line[1])), "the daemon"
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1], "a process that is started here"


def release() -> str:
    """Of the kernel."""
    return os.uname().release


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
