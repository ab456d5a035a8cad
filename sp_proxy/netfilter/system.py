"""Reads the kernel's rules and changes them, with the tools of the machine. Their errors become one line with a remedy."""

import grp
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sp_proxy.netfilter import iptables, nft
from sp_proxy.netfilter.others import NFT_TABLES, Istio, find_istio
from sp_proxy.netfilter.plan import Command, Saved, State, plan_remove
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.rules import Family, NetfilterError, Ruleset

TOOL_TIMEOUT_SECONDS = 60.0
_CAP_NET_ADMIN = 12  # linux/capability.h
_PROC_NET = Path("/proc/thread-self/net")
"""Of this thread's network namespace, not of the process's first thread, as ``/proc/net`` is."""
_FORMS = {"iptables-nft": "nf_tables", "iptables-legacy": "legacy"}
"""The two forms of iptables, and what ``iptables -V`` calls them."""
_PERMISSION = "the kernel's rules need root or CAP_NET_ADMIN (in a pod: capabilities.add: [NET_ADMIN, NET_RAW])"
_CGROUP = re.compile(r'socket cgroupv2 level \d+ "([^"\s]+)"')
_MODULES = {
    "nft": "modprobe nft_chain_nat nft_redir nft_fib_inet, or use --writer iptables",
    "iptables-nft": "modprobe nft_chain_nat nft_compat xt_REDIRECT xt_owner xt_multiport xt_addrtype xt_recent xt_comment, "
    "or use --writer iptables-legacy",
    "iptables-legacy": "modprobe iptable_nat ip6table_nat xt_REDIRECT xt_owner xt_multiport xt_addrtype xt_recent xt_comment, "
    "or use --writer nft",
}


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of this machine."""

    nft: bool
    iptables: dict[str, str]
    """``iptables-nft`` and ``iptables-legacy`` → the name of the IPv4 tool; without what is not installed."""
    default: str
    """The form which the plain ``iptables`` has; empty if it is not installed."""


def user_id(user: str) -> int:
    """The id of a user, by name or number. Raises ``NetfilterError`` for a name which the machine does not know."""
    if user.isascii() and user.isdigit():
        number = int(user)
        if number >= 1 << 32:
            raise NetfilterError(f"netfilter: user id {user} is above 4294967295", exit_code=2)
        return number
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise NetfilterError(
            f"netfilter: no user named '{user}' here; create it (useradd --system {user}) or give its numeric id",
            exit_code=2,
        ) from None


def group_id(group: str) -> int:
    """The id of a group, by name or number. Raises ``NetfilterError`` for a name which the machine does not know."""
    if group.isascii() and group.isdigit():
        number = int(group)
        if number >= 1 << 32:
            raise NetfilterError(f"netfilter: group id {group} is above 4294967295", exit_code=2)
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise NetfilterError(
            f"netfilter: no group named '{group}' here; create it (groupadd --system {group}) or give its numeric id",
            exit_code=2,
        ) from None


def addresses(host: str) -> tuple[str, ...]:
    """All addresses of a host, of both IP versions, in order. Raises ``NetfilterError`` for a name that has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NetfilterError(
            f"netfilter.restrict_egress: {host} has no address here ({error}): give netfilter.backend_cidrs",
            exit_code=1,
        ) from error
    return tuple(sorted({str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found}))


IDS = Ids(user_id, group_id, addresses)
"""The users and groups of this machine, and hosts as it knows them."""


def listens(port: int) -> bool:
    """Whether a TCP socket of this network namespace listens on a port (proc(5), net/tcp: state 0A)."""
    wanted = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        path = _PROC_NET / name
        lines = path.read_text("ascii").splitlines()[1:] if path.exists() else []
        if any(words[1].endswith(wanted) and words[3] == "0A" for words in map(str.split, lines)):
            return True
    return False


def own_cgroup() -> str:
    """The path of this process's control group of version 2, without slashes around it."""
    for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        if line.startswith("0::"):
            return line[3:].strip("/")
    return ""


def require_net_admin() -> None:
    """Raises ``NetfilterError`` unless this process may change the kernel's rules."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("CapEff:") and not int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1:
            raise NetfilterError(f"not permitted: {_PERMISSION}")


def kernel_families() -> tuple[Family, ...]:
    """The IP versions that this kernel has switched on."""
    return (4, 6) if (_PROC_NET / "if_inet6").exists() else (4,)


def addressed_families() -> tuple[Family, ...]:
    """The IP versions in which this host has an address at all: containers often have IPv6 without any."""
    addresses = _PROC_NET / "if_inet6"
    return (4, 6) if addresses.exists() and addresses.read_text("ascii").strip() else (4,)


def find_tools() -> Tools:
    """Looks for nft and both forms of iptables."""
    default = ""
    if shutil.which("iptables-save") and shutil.which("iptables"):
        version = _execute(Command(("iptables", "-V"))).stdout
        default = next((form for form, word in _FORMS.items() if word in version), "iptables-legacy")
    found = {form: form for form in _FORMS if shutil.which(f"{form}-restore") and shutil.which(f"{form}-save")}
    if default:
        found.setdefault(default, "iptables")
    return Tools(nft=shutil.which("nft") is not None, iptables=found, default=default)


def choose_writer(wanted: str, tools: Tools, ruleset: Ruleset) -> str:
    """``nft``, ``iptables-nft`` or ``iptables-legacy``.

    ``auto`` takes nft if it is installed and the kernel accepts the rules in a transaction that is not committed.
    """
    chosen = _choose(wanted, tools, ruleset)
    if chosen != "nft" and (reason := iptables.refuse(ruleset)):
        raise NetfilterError(reason, exit_code=2)
    return chosen


def _choose(wanted: str, tools: Tools, ruleset: Ruleset) -> str:
    if wanted == "nft" and not tools.nft:
        raise NetfilterError("nft is not installed: apt-get install nftables, or use --writer iptables")
    if wanted.startswith("iptables"):
        form = tools.default if wanted == "iptables" else wanted
        if form not in tools.iptables:
            raise NetfilterError(f"{wanted} is not installed: apt-get install iptables, or use --writer nft")
        return form
    if wanted == "auto" and not tools.nft and not tools.default:
        raise NetfilterError("neither nft nor iptables is installed: apt-get install nftables")
    if wanted == "auto" and tools.default:
        if tools.nft and iptables.refuse(ruleset):  # then nft says itself what it cannot do
            return "nft"
        trial = tools.nft and _execute(Command(("nft", "-c", "-f", "-"), nft.render(ruleset))).returncode == 0
        return "nft" if trial else tools.default
    return "nft"


def read_state(tools: Tools, writer: str = "", families: tuple[Family, ...] = (4, 6)) -> State:
    """What the kernel holds now.

    ``writer`` is about to write these ``families``: what it cannot read is an error, and reading may load its kernel
    modules. Of the others, what cannot be read is taken for nothing.
    """
    listing, script = "", ""
    if tools.nft:
        tables = _execute(Command(("nft", "list", "tables")))
        if tables.returncode and writer == "nft":
            raise _failure("nft", tables.args[0], tables.stderr)
        if f"table {nft.TABLE}" in tables.stdout.splitlines():
            listing = run(Command(("nft", "-j", "list", "table", *nft.TABLE.split())), "nft")
            script = run(Command(("nft", "-s", "list", "table", *nft.TABLE.split())), "nft")
    saved = [
        Saved(tool, form, family, text)
        for form, base in tools.iptables.items()
        for family in kernel_families()
        for tool in [base if family == 4 else base.replace("iptables", "ip6tables")]
        for text in [_save(tool, form, family, "nat", needed=form == writer and family in families)]
        if form == writer or iptables.is_installed(text)
    ]
    return State(listing, tuple(saved), script)


def read_istio(tools: Tools) -> Istio | None:
    """Istio's rules, as far as they can be seen."""
    listings = {}
    if tools.nft:
        for table in _execute(Command(("nft", "list", "tables"))).stdout.splitlines():
            if (name := table.removeprefix("table ").strip()) in NFT_TABLES:
                listings[name] = _execute(Command(("nft", "list", "table", *name.split()))).stdout
    saves = {
        form: "".join(_save(base, form, 4, table, needed=False) for table in ("nat", "mangle"))
        for form, base in tools.iptables.items()
    }
    return find_istio(listings, saves)


def apply(commands: Iterable[Command], writer: str, tools: Tools) -> None:
    """Runs a plan.

    Each command is a transaction. If the first fails, the kernel is as before. If a later one does, all that is ours is
    removed: better nothing redirected than half. The error is raised in both cases.
    """
    changed = False
    try:
        for command in commands:
            run(command, writer)
            changed = True
    except NetfilterError as error:
        if not changed:
            raise
        for command in plan_remove(read_state(tools)):
            run(command, writer)
        raise NetfilterError(f"{error}. Nothing is redirected now") from error


def run(command: Command, writer: str) -> str:
    """Runs one command to its end; gives what it printed. A failure raises ``NetfilterError``."""
    done = _execute(command)
    if done.returncode:
        raise _failure(writer, command.argv[0], done.stderr)
    return done.stdout


def _save(tool: str, form: str, family: Family, table: str, *, needed: bool) -> str:
    """A table of one form. The legacy tools would create the table only by looking, so they are asked if it exists."""
    names = _PROC_NET / f"{'ip' if family == 4 else 'ip6'}_tables_names"
    if form == "iptables-legacy" and not needed and not (names.exists() and table in names.read_text("ascii").split()):
        return ""
    command = Command((f"{tool}-save", "-c", "-t", table))
    if needed:
        return run(command, form)
    done = _execute(command)
    return "" if done.returncode else done.stdout


def _execute(command: Command) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command.argv,
            input=command.stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=TOOL_TIMEOUT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise NetfilterError(f"{command.argv[0]} did not end within {TOOL_TIMEOUT_SECONDS:.0f} s") from None
    except OSError as error:
        raise NetfilterError(f"{command.argv[0]} cannot be run: {error.strerror}") from error


def _failure(writer: str, tool: str, stderr: str) -> NetfilterError:
    """One line that names the remedy. The messages are those of nft 1.0.6 and iptables 1.8.9."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("#")]
    said = next((line for line in lines if "rror" in line or "ailed" in line), lines[0] if lines else "no message")
    lower = stderr.lower()
    if "permission denied" in lower or "operation not permitted" in lower or "must be root" in lower:
        return NetfilterError(f"{tool}: not permitted: {_PERMISSION}")
    if "xtables lock" in lower:
        return NetfilterError(f"{tool}: another program holds the lock of iptables: try again")
    if "cgroupv2 path fails" in lower:
        named = _CGROUP.search(stderr)
        path = named[1] if named else "of the rules"
        remedy = (
            f"start what runs in it, or make it: mkdir -p /sys/fs/cgroup/{path}" if named else "see netfilter.*_cgroups"
        )
        return NetfilterError(f"{tool}: the control group {path} is not there: {remedy}")
    missing = ("no such file", "not supported", "does not exist", "no chain/target/match", "missing kernel module")
    if any(words in lower for words in missing):
        remedy = _MODULES.get(writer, _MODULES["nft"])
        remedy += "; or set netfilter.ipv6 to false" if tool.startswith("ip6tables") else ""
        return NetfilterError(f"{tool}: {said}: a kernel module is missing: {remedy}")
    return NetfilterError(f"{tool}: {said}")
