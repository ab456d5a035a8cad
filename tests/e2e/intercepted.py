"""A pod whose daemon may open TLS, and the servers for it, on both sides of real redirect rules."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.harness import APP_UID, PROGRAM, TIMEOUT, Daemon, eventually, home, netfilter, running_daemon
from tests.e2e.servers import ROOT, listen
from tests.mitm.certificates import write_certificate
from tests.netns import Namespace

TLS_PORT = 8443
NAMES = ("shop.test", "bank.test", "pinned.test")


@dataclass
class TlsSite:
    """``ca`` is what clients trust when TLS is opened, ``origin`` the servers' own certificate."""

    pod: Namespace
    outside: Namespace
    daemon: Daemon
    ca: Path
    origin: Path

    def ends(self, direction: str) -> tuple[Namespace, Namespace]:
        """Client and server."""
        return (self.outside, self.pod) if direction == "inbound" else (self.pod, self.outside)


@contextmanager
def tls_echo(namespace: Namespace, certificate: Path) -> Iterator[None]:
    """``echo_app`` inside TLS, HTTP/1.1 and HTTP/2, on TLS_PORT of all addresses."""
    listening = namespace.call(partial(listen, TLS_PORT))
    process = namespace.popen(
        *("env", "-i", f"--chdir={ROOT}", sys.executable, "-m", "hypercorn", "--bind", f"fd://{listening.fileno()}"),
        *("--certfile", str(certificate), "--keyfile", str(certificate), "tests.e2e.echo_app:app"),
        user=APP_UID,
        pass_fds=(listening.fileno(),),
    )
    listening.close()
    try:
        eventually(
            lambda: namespace.run("curl", "-sk", f"https://127.0.0.1:{TLS_PORT}/", check=False).returncode,
            lambda code: code == 0,
            "the TLS echo app answers",
        )
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tls_site(
    pod: Namespace, outside: Namespace, settings: Mapping[str, Any], errors: tuple[str, ...], *, redirect: bool = True
) -> Iterator[TlsSite]:
    """A daemon with its own authority; ``settings`` beside ``tls``, whose files are filled in."""
    with home() as directory, ExitStack() as stack:
        origin = write_certificate(directory / "origin.pem", *NAMES)
        origin.chmod(0o644)
        subprocess.run([PROGRAM, "ca", "init", "--directory", str(directory / "ca")], check=True, capture_output=True)
        for path in (directory / "ca", *(directory / "ca").iterdir()):
            path.chmod(0o755)  # the daemon has another user
        for namespace in (pod, outside):
            stack.enter_context(tls_echo(namespace, origin))
        tls = {"ca_directory": str(directory / "ca"), "trusted_ca_file": str(origin), **settings.get("tls", {})}
        daemon = stack.enter_context(
            running_daemon(
                pod,
                directory,
                {**settings, "tls": tls},
                expected_errors=errors,
                workers_die="mitm_worker_died" in errors,
            )
        )
        if redirect:
            netfilter(pod, directory / "sp_proxy.yaml", "apply", "--writer", "nft")
            stack.callback(netfilter, pod, directory / "sp_proxy.yaml", "remove")
        yield TlsSite(pod, outside, daemon, directory / "ca" / "sp-proxy-ca-cert.pem", origin)


@dataclass(frozen=True)
class Fetched:
    """What curl got. ``code`` is its exit code, 60 for a certificate that it does not accept."""

    code: int
    http_version: str
    seen: dict[str, Any]


def fetch(near: Namespace, url: str, *options: str) -> Fetched:
    """An answer of the echo app."""
    done = near.run(
        *("curl", "--silent", "--show-error", "--globoff", "--max-time", str(TIMEOUT)),
        *("--write-out", "\n%{http_version}", *options, url),
        check=False,
    )
    body, _, version = done.stdout.rpartition("\n")
    return Fetched(done.returncode, version, json.loads(body) if body.startswith("{") else {})


def address(namespace: Namespace, family: int) -> str:
    return namespace.ipv4 if family == 4 else f"[{namespace.ipv6}]"
