"""What a test needs of the machine. Missing: skipped with the reason, but a failure under ``CI=true``."""

import os
import shutil
from typing import NoReturn

import pytest

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "iptables-nft": "iptables",
    "ip6tables-nft": "iptables",
    "iptables-legacy": "iptables",
    "ip6tables-legacy": "iptables",
    "setpriv": "util-linux",
    "runuser": "util-linux",
    "curl": "curl",
    "node": "nodejs",
    "script": "bsdutils",
    "promtool": "prometheus",
    "systemctl": "systemd",
    "systemd-sysusers": "systemd",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "tshark": "tshark",
    "h2load": "nghttp2-client",
    "nghttp": "nghttp2-client",
    "nghttpd": "nghttp2-server",
    "psql": "postgresql",
    "redis-cli": "redis-server",
}
"""The Debian package of a tool, where it has another name or is not obvious."""


def unavailable(reason: str) -> NoReturn:
    """Ends the test: skipped with the reason, or failed under ``CI=true``, where everything must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run under CI=true: {reason}", pytrace=False)
    pytest.skip(reason)


def require_root_tools(*tools: str) -> None:
    """The test runs as root and finds these tools on the path; for a fixture or the first line of a test."""
    if os.geteuid() != 0:
        unavailable("needs root")
    require_tools(*tools)


def require_tools(*tools: str) -> None:
    """The test finds these tools on the path."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = sorted({PACKAGES.get(tool, tool) for tool in missing})
        unavailable(f"needs {', '.join(missing)}: apt-get install {' '.join(packages)}")
