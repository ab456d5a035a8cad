"""The network of a run's namespaces, on this host's side: a wire to each, NAT to the outside, and all of it gone afterwards.

What is made bears the run's name (``demo/runs.py``): a table of nftables, rules of iptables with a comment where others let
nothing be forwarded, interfaces. So what a killed run left is found, and removed by the next one.
"""

import ipaddress
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sp_proxy.demo import runs
from sp_proxy.demo.errors import NotPermittedError
from sp_proxy.demo.places import run_tool
from sp_proxy.dev.errors import DevError

PREFIX = "spdev"
TOOLS = {"ip": "iproute2", "nft": "nftables", "setpriv": "util-linux", "mount": "mount"}
"""What namespaces need, and the Debian package of each."""
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_ETC = Path("/etc/netns")
_COMMENT = re.compile(rf"\b({PREFIX}-[0-9]+-[0-9]+)\b")


class Wiring:
    """One run's. ``close`` removes all of it; twice is fine."""

    def __init__(self) -> None:
        self.name = runs.this_run(PREFIX)
        self.network = free_network(os.getpid())
        self._table = self.name.replace("-", "_")
        self._namespaces: list[str] = []
        self._closed: list[str] = []

    def address(self, index: int) -> str:
        """The address of a namespace, by its number."""
        return str(self.network[4 * index + 2])

    def gateway(self, index: int) -> str:
        """The address of this host on the wire to a namespace."""
        return str(self.network[4 * index + 1])

    def connect(self, index: int, namespace: str) -> None:
        """A wire to a namespace, which is its way to everywhere. Raises NotPermittedError."""
        interface = self.interface(index)
        run_tool(
            *("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", namespace),
            failure=NotPermittedError,
        )
        run_tool("ip", "address", "add", f"{self.gateway(index)}/30", "dev", interface)
        run_tool("ip", "link", "set", interface, "up")
        inside = ("ip", "-n", namespace)
        run_tool(*inside, "address", "add", f"{self.address(index)}/30", "dev", "eth0")
        run_tool(*inside, "link", "set", "eth0", "up")
        run_tool(*inside, "route", "add", "default", "via", self.gateway(index))

    def interface(self, index: int) -> str:
        """The name of our end of a wire; at most 15 characters."""
        return f"spd{os.getpid()}n{index}"

    def resolve_by(self, index: int, namespace: str, host_file: str) -> None:
        """Names are asked of this host, on the wire: its own name server may listen on its loopback only."""
        directory = _ETC / namespace
        directory.mkdir(parents=True, exist_ok=True)
        self._namespaces.append(namespace)
        kept = [line for line in host_file.splitlines() if line.split()[:1] in (["search"], ["domain"], ["options"])]
        text = "\n".join([f"nameserver {self.gateway(index)}", *kept])
        (directory / "resolv.conf").write_text(f"{text}\n", "utf-8")

    def open_outside(self) -> None:
        """NAT for what leaves, and forwarding."""
        apply_nft(nat_rules(self._table, self.network))
        self._closed = [*_closed_chains()]
        for rule in self._accepting():
            run_tool("iptables", "-w", "-I", *rule)
        if _FORWARDING.read_text("ascii").strip() == "0" or _marker().is_dir():
            try:
                _marker().mkdir(exist_ok=True)
                (_marker() / self.name).touch()
                _FORWARDING.write_text("1", "ascii")
            except OSError as error:
                raise NotPermittedError(f"{_FORWARDING}: {os.strerror(error.errno or 0).lower()}") from error

    def close(self) -> None:
        """Take everything away but the wires, which go with their namespaces."""
        for rule in self._accepting():
            run_tool("iptables", "-w", "-D", *rule, check=False)
        self._closed = []
        run_tool("nft", "delete", "table", "ip", self._table, check=False)
        for namespace in self._namespaces:
            shutil.rmtree(_ETC / namespace, ignore_errors=True)
        _tidy()
        _stop_forwarding(self.name)

    def _accepting(self) -> list[list[str]]:
        """Rules for hosts whose firewall lets nothing through by itself (Docker's FORWARD, ufw's INPUT)."""
        wires = f"spd{os.getpid()}n+"
        comment = ["-m", "comment", "--comment", self.name]
        rules = []
        if "FORWARD" in self._closed:
            rules += [["FORWARD", way, wires, *comment, "-j", "ACCEPT"] for way in ("-i", "-o")]
        if "INPUT" in self._closed:
            rules += [
                ["INPUT", "-i", wires, "-p", protocol, "--dport", "53", *comment, "-j", "ACCEPT"]
                for protocol in ("udp", "tcp")
            ]
        return rules


def free_network(seed: int) -> ipaddress.IPv4Network:
    """A /24 of 10.213.0.0/16 that no route of this host knows. Raises DevError."""
    found = json.loads(run_tool("ip", "-j", "-4", "route", "show", "table", "all") or "[]")
    known = list(_networks(str(route.get("dst", "")) for route in found))
    candidates = list(ipaddress.ip_network("10.213.0.0/16").subnets(new_prefix=24))
    for offset in range(len(candidates)):
        network = candidates[(seed + offset) % len(candidates)]
        if isinstance(network, ipaddress.IPv4Network) and not any(network.overlaps(each) for each in known):
            return network
    raise DevError("no network is free in 10.213.0.0/16; use --proxy")


def nat_rules(table: str, network: ipaddress.IPv4Network) -> str:
    """What ``nft -f -`` makes of a run's network: what leaves it has this host's address."""
    return f"""\
table ip {table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {network} ip daddr != {network} masquerade
    }}
}}
"""


def apply_nft(rules: str) -> None:
    """Let nft read rules. Raises DevError."""
    run_tool("sh", "-c", 'printf %s "$0" | nft -f -', rules)


def sweep() -> list[str]:
    """Remove what killed runs left, but for namespaces and directories; returns what was removed."""
    removed = []
    for line in run_tool("nft", "list", "tables", check=False).splitlines():
        words = line.split()
        if len(words) == 3 and runs.is_left_over(words[2].replace("_", "-"), PREFIX):
            run_tool("nft", "delete", "table", words[1], words[2], check=False)
            removed.append(f"nftables table {words[2]}")
    for chain in ("FORWARD", "INPUT") if shutil.which("iptables") else ():
        for line in run_tool("iptables", "-w", "-S", chain, check=False).splitlines():
            match = _COMMENT.search(line)
            if match and line.startswith("-A ") and runs.is_left_over(match[1], PREFIX):
                run_tool("iptables", "-w", "-D", *shlex.split(line)[1:], check=False)
                removed.append(f"iptables rule in {chain}")
    for path in _ETC.glob(f"{PREFIX}-*"):
        if runs.is_left_over(path.name, PREFIX):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(str(path))
    _tidy()
    _stop_forwarding("")
    return removed


def missing_tools() -> dict[str, str]:
    """The tools that are not installed, and their Debian packages."""
    return {tool: package for tool, package in TOOLS.items() if shutil.which(tool) is None}


def _networks(texts: Iterable[str]) -> Iterable[ipaddress.IPv4Network]:
    for text in texts:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue  # "default"
        if isinstance(network, ipaddress.IPv4Network) and network.prefixlen:
            yield network


def _closed_chains() -> Iterable[str]:
    """Built-in chains whose policy lets nothing through."""
    for chain in ("FORWARD", "INPUT") if shutil.which("iptables") else ():
        if run_tool("iptables", "-w", "-S", chain, check=False).startswith(f"-P {chain} DROP"):
            yield chain


def _stop_forwarding(ours: str) -> None:
    """Switch forwarding off again if runs switched it on and none needs it any more."""
    marker = _marker()
    if not marker.is_dir():
        return
    for path in list(marker.iterdir()):
        if path.name == ours or runs.is_left_over(path.name, PREFIX):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # another run has begun to need it
        marker.rmdir()
        _FORWARDING.write_text("0", "ascii")


def _marker() -> Path:
    """Is there when forwarding was off in the network that we are in; has a file for each run that needs it on."""
    return Path("/run") / f"{PREFIX}.forwarding-{Path('/proc/self/ns/net').stat().st_ino}"


def _tidy() -> None:
    """The directory for namespaces' files, if nobody has any."""
    if _ETC.is_dir() and not any(_ETC.iterdir()):
        _ETC.rmdir()
