"""The daemon where a container puts it: as nobody, in a directory that it may not read, without HOME, without standard input."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.clients import curl
from tests.e2e.conftest import Pair
from tests.e2e.harness import ADMIN_PORT, PROGRAM, SETTINGS, TIMEOUT, Daemon, home, netfilter, write_config
from tests.e2e.servers import NGINX_PORT, nginx
from tests.netns import Namespace

NOBODY = 65534


@contextmanager
def daemon_of_nobody(pod: Namespace, directory: Path, config: Path, closed: str) -> Iterator[Daemon]:
    """``closed``: the shell's words for the standard streams that are."""
    private = directory / "private"
    private.mkdir(mode=0o700)
    log = directory / "daemon.log"
    identity = (
        f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
    )
    start = f'cd {private} && exec {identity} env -i PATH="$PATH" {PROGRAM} run --config {config} {closed}'
    with log.open("wb") as stderr:
        process = pod.popen("sh", "-c", start, user=0, stdout=stderr, stderr=stderr)
    try:
        yield Daemon(pod, process, log, ADMIN_PORT)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-"])
def test_it_works_all_the_same(pair: Pair, closed: str):
    pod, outside = pair
    settings = {**SETTINGS, "backend": {"enabled": True, "database": ":memory:"}, "spool": {}}
    with home() as directory, nginx(pod, directory / "nginx"):
        config = write_config(directory, settings)
        with daemon_of_nobody(pod, directory, config, closed) as daemon:
            daemon.wait_ready()
            netfilter(pod, config, "apply", "--set", f"netfilter.user={NOBODY}")
            assert curl(outside, "GET", f"http://{pod.ipv4}:{NGINX_PORT}/tea", {}).status == 200
            assert curl(pod, "GET", f"http://{pod.ipv4}:{NGINX_PORT}/tea", {}).status == 200
            assert daemon.exchange_where(path="/tea")["direction"] == "inbound"
            for pid in (daemon.process.pid, *daemon.workers):
                check_powerless(pid)
            daemon.settled()
            daemon.stop(expected_errors=["spool_off"])  # there is no place for it
            netfilter(pod, config, "remove")


def check_powerless(pid: int) -> None:
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines())
    assert fields["Uid"].split() == [str(NOBODY)] * 4
    assert fields["Groups"].strip() == ""
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("relay: {workers: many}\n", ["relay.workers", "many"]),
        ("relay: {wrokers: 2}\n", ["relay.wrokers", "relay.workers"]),
        ("sp_backend_url: ftp://example\n", ["sp_backend_url", "ftp://example"]),
        ("collectionRules: {http: {server: [{path: 'a['}]}}\n", ["collectionRules.http.server[0].path", "a["]),
        ("listen: [1, 2\n", ["sp_proxy.yaml"]),
        ("- a list\n", ["sp_proxy.yaml"]),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_code_2(pair: Pair, text: str, expected: list[str]):
    with home() as directory:
        config = directory / "sp_proxy.yaml"
        config.write_text(text)
        with daemon_of_nobody(pair[0], directory, config, "<&-") as daemon:
            assert daemon.process.wait(TIMEOUT) == 2
            (line,) = daemon.log.splitlines()
    assert line.startswith(f"sp-proxy: {config}")
    assert all(word in line for word in expected)


def test_a_configuration_that_it_may_not_read(pair: Pair):
    with home() as directory:
        config = write_config(directory, SETTINGS)
        config.chmod(0o600)
        with daemon_of_nobody(pair[0], directory, config, "<&-") as daemon:
            assert daemon.process.wait(TIMEOUT) == 2
            (line,) = daemon.log.splitlines()
    assert str(config) in line
    assert "not readable" in line


@pytest.mark.parametrize("writer", ["nft", "iptables"])
def test_redirect_rules_need_more_rights(pair: Pair, writer: str):
    with home() as directory:
        config = write_config(directory, SETTINGS)
        done = pair[0].run(
            *(PROGRAM, "netfilter", "apply", "--config", str(config), "--writer", writer), user=NOBODY, check=False
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "CAP_NET_ADMIN" in line
