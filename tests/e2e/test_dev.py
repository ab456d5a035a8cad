"""``sp-proxy dev`` as a new user tries it: docs/local.md is the script, once without root and once with it.

The machine is a network namespace, and the world outside another one: a name server, and ``example.org`` with and without TLS.
Without root the runs are another user's, and what they reach they reach by the explicit proxy; as root, by redirect rules.
"""

import http.server
import os
import re
import shlex
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from sp_proxy.demo import access
from tests.certificate_authority import CertificateAuthority
from tests.netns import Namespace, default_route, link
from tests.requirements import require_root_tools

ROOT = Path(__file__).parent.parent.parent
NOBODY = 65534
BIN = str(Path(sys.executable).parent)
PROGRAM = f"{BIN}/sp-proxy"
pytestmark = pytest.mark.timeout(600)


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"hello from example.org\n"
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nothing."""


class Serving(http.server.ThreadingHTTPServer):
    """On a socket that is there already, with TLS or without."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        super().__init__(("", 0), Origin, bind_and_activate=False)
        self.socket.close()
        self.socket = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) if context else sock

    def handle_error(self, *_args: object) -> None:
        """A client that goes away is no error."""


def answer(question: bytes, address: str) -> bytes:
    """Every name has this address (RFC 1035), and none of IPv6."""
    end = question.index(0, 12) + 5
    (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
    found = kind == 1
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, int(found), 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return head + question[12:end] + (record if found else b"")


def serve_names(sock: socket.socket, address: str) -> None:
    while True:
        try:
            question, client = sock.recvfrom(4096)
        except OSError:
            return
        if not question:
            return
        sock.sendto(answer(question, address), client)


def send_nothing(address: tuple[str, int]) -> None:
    """Ends ``serve_names``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", address)


class Machine:
    """Where the runs are."""

    def __init__(self, namespace: Namespace, directory: Path, ca_file: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self.ca_file = ca_file

    def command(self, *words: str, user: int | None = None) -> list[str]:
        """A command on this machine. Its mount namespace has the resolver's file, and nobody else has it."""
        lay = f"mount --bind {self.directory}/resolv.conf /etc/resolv.conf; " + 'exec "$@"'
        inside = ["nsenter", f"--net=/run/netns/{self.namespace.name}", "unshare", "--mount", "sh", "-ec", lay, "sh"]
        drop = [] if user is None else [*access.opener(self.directory), "setpriv", f"--reuid={user}", f"--regid={user}"]
        return [*inside, *drop, *(["--clear-groups", "--"] if drop else []), *words]

    def environ(self, home: Path) -> dict[str, str]:
        """A user's own environment, whose authorities include that of ``example.org``."""
        kept = {name: os.environ[name] for name in ("LANG", "PATH") if name in os.environ}
        kept["PATH"] = f"{BIN}:{kept['PATH']}"
        return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "SSL_CERT_FILE": str(self.ca_file)}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    require_root_tools("ip", "nft", "setpriv", "nsenter", "unshare", "script", "curl", "node")
    with ExitStack() as stack:
        # Not below pytest's own directory, which no other user may enter.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sp-proxy-test-")))
        directory.chmod(0o711)
        authority = CertificateAuthority(directory)
        authority.ca_file.chmod(0o644)
        here, world = stack.enter_context(Namespace("machine")), stack.enter_context(Namespace("world"))
        link(here, world)
        default_route(here, world)
        (directory / "resolv.conf").write_text(f"nameserver {world.ipv4}\n")
        (directory / "resolv.conf").chmod(0o644)
        for port, context in ((80, None), (443, authority.server("example.org"))):
            server = Serving(world.call(partial(socket.create_server, ("", port))), context)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        names = world.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        names.bind(("", 53))
        asked = threading.Thread(target=serve_names, args=(names, world.ipv4))
        asked.start()
        stack.callback(names.close)
        stack.callback(asked.join)
        stack.callback(world.call, lambda: send_nothing((world.ipv4, 53)))
        yield Machine(here, directory, authority.ca_file)


# ---- the document


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of the walk-through: language and content."""
    section = text.split("## A walk-through\n")[1].partition("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def script_and_expectations(content: str) -> tuple[str, list[str]]:
    """A console block: its commands, and what they say. ``…`` stands for any text."""
    lines = content.splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return "\n".join(commands), [line for line in lines if not line.startswith("$ ")]


def is_said(expected: str, output: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return any(re.fullmatch(pattern, line.strip("\r")) for line in output.splitlines())


DOCUMENT = (ROOT / "docs/local.md").read_text()


@pytest.mark.parametrize("user", [NOBODY, None], ids=["another-user", "root"])
def test_the_walk_through(machine, user):
    home = machine.directory / ("user" if user else "root")
    home.mkdir()
    if user:
        os.chown(home, user, user)
    found = blocks(DOCUMENT)
    assert [language for language, _ in found] == ["console", "python", "js", "toml", "console", "console"]
    for language, content in found:
        if language != "console":
            name = re.match(r"(?:#|//) (\S+)\n", content)
            assert name
            (home / name[1]).write_text(content)
            (home / name[1]).chmod(0o644)
            continue
        script, expected = script_and_expectations(content)
        done = subprocess.run(
            machine.command("bash", "-c", script, user=user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=home,
            env=machine.environ(home),
            timeout=300,
            check=False,
        )
        missing = [line for line in expected if not is_said(line, done.stdout)]
        assert missing == [], f"$ {script}\n{done.stdout}"
        assert "Traceback" not in done.stdout
        if user is None:
            assert "explicit proxy" not in done.stdout
    key = home / "state/sp-proxy/dev/sp-proxy-ca.pem"
    assert key.stat().st_uid == (user or 0)
    assert key.stat().st_mode & 0o077 == 0


# ---- what remains


def left(machine: Machine) -> list[str]:
    """What runs have left, by anybody on this machine whose process is gone."""
    tables = machine.namespace.run("nft", "list", "tables").stdout.splitlines()
    links = machine.namespace.run("ip", "-br", "link").stdout.splitlines()
    found = [line for line in tables if "spdev" in line] + [line.split()[0] for line in links if line.startswith("spd")]
    for place in ("/run/netns", "/etc/netns", "/run"):
        paths = Path(place).glob("spdev-*")
        found += [str(path) for path in paths if not Path("/proc", path.name.split("-")[1]).exists()]
    return found


@contextmanager
def running(machine: Machine, home: Path, *words: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    # Without a mount namespace of its own: what a killed run leaves is to be seen.
    command = ["nsenter", f"--net=/run/netns/{machine.namespace.name}", PROGRAM, "dev", *words]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**machine.environ(home), **environ},
        cwd=home,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    pytest.fail(f"{text!r} was never said:\n{seen}")


SERVER = "import http.server, os; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ['PORT']), bind='127.0.0.1')"


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_remains(machine):
    home = machine.directory / "killed"
    home.mkdir()
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    machine.namespace.call(lambda: forwarding.write_text("0"))
    with running(machine, home, "--", "sh", "-c", "echo as $(id -u); exec sleep 600", SUDO_UID=str(NOBODY)) as process:
        read_until(process, f"as {NOBODY}\n")
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    remains = left(machine)
    assert any("table ip spdev_" in each for each in remains)
    assert any(each.startswith("/run/netns/") for each in remains)

    with running(machine, home, "--port", "8080", "--", sys.executable, "-c", SERVER) as process:
        said = read_until(process, "http://localhost:8080 leads to")
        assert "removed what an earlier run left: network namespace spdev-" in said
        assert "removed what an earlier run left: nftables table spdev_" in said
        retry = ["--retry", "120", "--retry-delay", "1", "--retry-all-errors"]
        page = machine.namespace.run("curl", "-sf", *retry, "http://localhost:8080/", timeout=150).stdout
        assert "Directory listing" in page
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read() if process.stdout else ""
        assert process.wait(60) == 128 + signal.SIGTERM
        assert re.search(r"200 \S+ <- GET http://localhost:8080/", rest)
    deadline = time.monotonic() + 30
    while left(machine) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left(machine) == []
    assert machine.namespace.call(forwarding.read_text) == "0\n"


def test_answers_of_an_earlier_run(machine):
    home = machine.directory / "mock"
    home.mkdir()
    said = []
    kept = ["--database", "kept.sqlite3"]
    for words in ([*kept, "--proxy"], [*kept, "--mock", "status:200", "--mock-host", "^example"]):
        done = subprocess.run(
            machine.command(PROGRAM, "dev", *words, "--", "curl", "-sS", "https://example.org/"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=home,
            env=machine.environ(home),
            timeout=300,
            check=False,
        )
        said.append(done.stdout)
        assert done.returncode == 0, said
    assert ["hello from example.org" in each for each in said] == [True, True]
    assert ["captured 1 exchange:" in each for each in said] == [True, False]  # a stored answer was no traffic
    assert "captured 0 exchanges:" in said[1]
    assert "mock: 1 answered from what was captured, 0 without" in said[1]
    assert "FOR TESTS ONLY" in said[1]


@pytest.mark.parametrize("form", ["one-command", "file"])
def test_ctrl_c_on_a_terminal(machine, form):
    home = machine.directory / form
    home.mkdir()
    (home / "sp-dev.toml").write_text('[[service]]\nname = "clock"\ncommand = "echo on; exec sleep 600"\n')
    trap = shlex.quote("trap 'echo caught; exit 5' INT; echo on; while :; do sleep 0.1; done")
    command = f"exec {PROGRAM} dev --proxy" + (f" -- sh -c {trap}" if form == "one-command" else "")
    inside = ["nsenter", f"--net=/run/netns/{machine.namespace.name}", "script", "-qec", command, "/dev/null"]
    environ = {**machine.environ(home), "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace", env=environ, cwd=home
    ) as process:
        try:
            seen = read_until(process, "on\n" if form == "one-command" else "Ctrl-C ends all")
            assert process.stdin
            process.stdin.write("\x03")
            process.stdin.flush()
            assert process.stdout
            seen += process.stdout.read()
            code = process.wait(60)
        finally:
            process.kill()
    assert "captured 0 exchanges" in seen
    if form == "one-command":
        assert code == 5, seen
        assert "caught" in seen
        assert "\x1b" not in seen  # nothing is drawn over what the command writes
    else:
        assert code == 128 + signal.SIGINT
        assert re.search(r"clock\s.*running", seen)


def test_the_document_says_where_the_files_are():
    assert "sp-dev.toml" in DOCUMENT
    assert shlex.split(script_and_expectations(blocks(DOCUMENT)[0][1])[0])[:2] == ["sp-proxy", "dev"]
