"""``docs/hosts.md``, followed to the letter on a host that boots systemd; and what it says of the units.

One host for all of it, as one goes on to live with what was installed: the tests are in the order of the page.
"""

import itertools
import json
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.booted import ROOT, Host, booted_host
from tests.e2e.certificates import write_certificate
from tests.e2e.contract import joined
from tests.e2e.envoy import ENVOY_UID, Envoy, install_istio, remove_istio
from tests.e2e.harness import eventually, home
from tests.e2e.load import Load, load
from tests.e2e.servers import ECHO_PORT, echo
from tests.netns import Namespace, default_route, link
from tests.requirements import require_root_tools

pytestmark = pytest.mark.timeout(900)  # the first of them installs

TEXT = (ROOT / "docs" / "hosts.md").read_text("utf-8")
CONFIG = "/etc/sp-proxy/config.yaml"
SERVICES = ("sp-proxy.service", "sp-proxy-netfilter.service")
FORWARDED = 8090
"""Of a forwarding listener, on all addresses."""
_INSTALL_SECONDS = 400.0
_numbers = itertools.count(1)


def section(heading: str) -> str:
    _, _, after = TEXT.partition(f"\n## {heading}\n")
    assert after, heading
    return after.partition("\n## ")[0]


def blocks(heading: str, kind: str) -> list[str]:
    """The code blocks of one kind under a heading."""
    return re.findall(rf"```{kind}\n(.*?)```", section(heading), re.DOTALL)


def typed(heading: str, block: int) -> list[str]:
    """Every line that a person types in one block under a heading."""
    return blocks(heading, "sh")[block].splitlines()


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[Namespace, Namespace]]:
    """The host's own, and a neighbour's."""
    require_root_tools("ip", "curl", "nft", "iptables")
    with Namespace("vm") as vm, Namespace("peer") as peer:
        link(vm, peer)
        default_route(vm, via=peer)
        default_route(peer, via=vm)
        yield vm, peer


@pytest.fixture(scope="module")
def host(network: tuple[Namespace, Namespace]) -> Iterator[Host]:
    """With what a person has at hand: sudo, an editor (which writes what it is told to)."""
    with booted_host(network[0]) as host:
        host.write("/usr/local/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
        host.write("/usr/local/bin/editor", '#!/bin/sh\ncat /tmp/typed >"$1"\n', 0o755)
        yield host


def follow(host: Host, line: str) -> str:
    """Types a line. What is fetched comes over this machine's network, with its interpreter and its settings."""
    if line.endswith("&"):
        line = f"{line[:-1]} >/dev/null 2>&1 &"
    online = "install-host" in line
    env = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "HOME"))}
    done = host.run(
        line,
        env={**env, "PYTHON": os.path.realpath(sys.executable)} if online else {},
        directory=ROOT,
        online=online,
        timeout=_INSTALL_SECONDS,
    )
    return done.stdout


def configure(host: Host, text: str) -> None:
    """In the editor."""
    host.write("/tmp/typed", text)
    follow(host, typed("Try it", 2)[0])


def restart(host: Host) -> None:
    host.run("systemctl restart sp-proxy", timeout=90)


@pytest.fixture(scope="module")
def installed(host: Host) -> Host:
    for line in typed("Try it", 0):
        follow(host, line)
    (line,) = typed("Try it", 1)
    follow(host, line)
    return host


@pytest.fixture(scope="module")
def walked(installed: Host) -> Host:
    """Configured and started, as "Try it" says."""
    (settings,) = blocks("Try it", "yaml")
    configure(installed, settings)
    for block in (3, 4):
        for line in typed("Try it", block):
            follow(installed, line)
    return installed


def exchanges(host: Host, *filters: str) -> list[dict[str, Any]]:
    text = host.run(shlex.join(["sp-proxy", "query", "--json", *filters]), check=False).stdout
    return [json.loads(line) for line in text.splitlines()]


def get(peer: Namespace, host: str, port: int, path: str) -> str:
    return peer.run("curl", "-sSf", "--max-time", "20", f"http://{host}:{port}{path}").stdout


def status_of(host: Host, unit: str = "sp-proxy") -> dict[str, str]:
    """The fields of its main process (proc_pid_status(5))."""
    pid = host.run(f"systemctl show --property=MainPID --value {unit}").stdout.strip()
    lines = host.read(f"/proc/{pid}/status").splitlines()
    return {"pid": pid, **{name: value.strip() for name, _, value in (line.partition(":") for line in lines)}}


def runs(host: Host) -> str:
    """The program that the daemon is."""
    words = host.read(f"/proc/{status_of(host)['pid']}/cmdline").split("\0")
    return host.run(f"readlink -f {words[1]}").stdout.strip()


def redirected(host: Host, peer: Namespace, address: str) -> None:
    """Until new connections come to the daemon."""

    path = f"/menu.json?number={next(_numbers)}"

    def look() -> bool:
        get(peer, address, 8080, path)
        return bool(exchanges(host, f"path:{path}"))

    eventually(look, bool, "connections are redirected", timeout=60)


def test_what_is_where(installed: Host):
    names = {"/etc/sp-proxy/config.yaml": "root:sp-proxy 640", "/var/lib/sp-proxy": "sp-proxy:sp-proxy 750"}
    for path, owner_and_mode in names.items():
        assert installed.run(f"stat -c '%U:%G %a' {path}").stdout.strip() == owner_and_mode
    assert f"| `{CONFIG}` | root:sp-proxy 640 |" in TEXT
    assert "| `/var/lib/sp-proxy` | sp-proxy 750 |" in TEXT
    release = installed.run("readlink -f /usr/local/bin/sp-proxy").stdout
    assert re.fullmatch(r"/opt/sp-proxy/\d+\.\d+\.\d+-\d{14}/bin/sp-proxy\n", release)
    # Nobody but root may change what root runs.
    assert installed.run(r"find /opt/sp-proxy ! -type l \( ! -user root -o -perm /022 \)").stdout == ""
    assert "nologin" in installed.run("getent passwd sp-proxy").stdout
    # Nothing is started, nothing redirected; what the file says is right but for the key.
    for unit in SERVICES:
        assert installed.run(f"systemctl is-active {unit}", check=False).stdout == "inactive\n"
        assert installed.run(f"systemctl is-enabled {unit}", check=False).stdout == "disabled\n"
    assert "sp_proxy" not in installed.run("nft list ruleset").stdout
    missing = installed.run(f"sp-proxy config check {CONFIG}", check=False)
    assert "public_key" in missing.stdout + missing.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_systemd_takes_the_unit_and_finds_it_as_safe_as_the_page_says(installed: Host, unit: str):
    done = installed.run(f"systemd-analyze verify --man=no {unit}", check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    said = re.search(r"\| `systemd-analyze security` [^|]*\| (\S+) \| (\S+) \|", TEXT)
    assert said
    exposure = installed.run(f"systemd-analyze security --no-pager {unit}").stdout
    found = re.search(r"Overall exposure level for \S+: (\S+)", exposure)
    assert found
    # Each version of systemd asks somewhat other questions.
    assert float(found[1]) <= float(said[1 + SERVICES.index(unit)]) + 0.5, exposure


def test_the_walk_through(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    for unit in SERVICES:
        assert walked.run(f"systemctl is-enabled {unit}").stdout == "enabled\n"
    report = eventually(
        lambda: walked.run(typed("Try it", 5)[0], check=False),
        lambda done: done.returncode == 0,
        "the doctor finds nothing",
    )
    assert "FAIL" not in report.stdout
    assert walked.run("systemctl is-system-running", check=False).stdout == "running\n"
    follow(walked, typed("Try it", 5)[1])
    call = re.search(r"`(curl http://HOST:8080/\S+)`", TEXT)
    assert call
    words = call[1].replace("HOST", vm.ipv4).split()
    assert "coffee" in peer.run(*words, "-sSf").stdout
    eventually(lambda: exchanges(walked, "direction:inbound"), bool, "it is captured")
    query, status, journal = typed("Try it", 6)
    assert re.search(r"200 GET .*/menu\.json", follow(walked, query)), follow(walked, query)
    assert "it holds" in follow(walked, status)
    events = [json.loads(line)["event"] for line in follow(walked, journal).splitlines() if line.startswith("{")]
    assert "ready" in events


def test_the_daemon_has_no_privilege_and_nowhere_to_write(walked: Host):
    status = status_of(walked)
    user = walked.run("id -u sp-proxy").stdout.strip()
    assert set(status["Uid"].split()) == {user}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    inside = f"nsenter --target={status['pid']} --mount setpriv --reuid=sp-proxy --regid=sp-proxy --clear-groups"
    for path in ("/etc/sp-proxy/x", "/opt/sp-proxy/x", "/usr/x", "/run/x", "/home/x"):
        assert walked.run(f"{inside} touch {path}", check=False).returncode != 0
    walked.run(f"{inside} touch /var/lib/sp-proxy/x")
    assert walked.run("stat -c %U /var/lib/sp-proxy/sp_proxy.sqlite3").stdout == "sp-proxy\n"


def test_whoever_flushes_all_rules_has_ours_written_again(walked: Host, network: tuple[Namespace, Namespace]):
    walked.run("systemctl start nftables")
    walked.run("systemctl reload nftables")
    text = eventually(
        lambda: walked.run(f"sp-proxy netfilter verify --config {CONFIG}", check=False),
        lambda done: done.returncode == 0,
        "the rules are there again",
    )
    assert "FAIL" not in text.stdout
    assert "inbound" in text.stdout
    walked.run("systemctl stop nftables")  # with the ruleset: ours is stopped with it
    assert "sp_proxy" not in walked.run("nft list ruleset").stdout
    assert get(network[1], network[0].ipv4, 8080, "/menu.json")
    walked.run("systemctl start sp-proxy-netfilter", timeout=90)


def test_rules_that_do_not_work_here_are_not_tried_again_and_again(walked: Host, network: tuple[Namespace, Namespace]):
    """Each try would take connections away for seconds."""
    vm, peer = network
    walked.run("systemctl stop sp-proxy-netfilter", timeout=90)
    walked.run("nft add table inet wall '{ chain i { type filter hook input priority 0; tcp dport 16006 drop; }; }'")
    try:
        assert walked.run("systemctl start sp-proxy-netfilter", check=False, timeout=90).returncode != 0
        failed = walked.run("systemctl show --property=ActiveState,NRestarts,ExecMainStatus sp-proxy-netfilter").stdout
        assert set(failed.split()) == {"ActiveState=failed", "NRestarts=0", "ExecMainStatus=3"}
        assert "is a firewall in between" in walked.run("journalctl --unit=sp-proxy-netfilter --output=cat").stdout
        assert get(peer, vm.ipv4, 8080, "/menu.json")
    finally:
        walked.run("nft delete table inet wall")
    walked.run("systemctl start sp-proxy-netfilter", timeout=90)


def test_wrong_settings_are_said_in_a_line_and_not_tried_again(walked: Host):
    (right,) = blocks("Try it", "yaml")
    configure(walked, right + "no_such_setting: 1\n")
    # The one that runs refuses them, and goes on.
    eventually(
        lambda: walked.run("journalctl --unit=sp-proxy --output=cat").stdout,
        lambda text: '"event":"reload_refused"' in text.replace(" ", ""),
        "refused",
    )
    assert walked.run("systemctl is-active sp-proxy").stdout == "active\n"
    assert walked.run("systemctl restart sp-proxy", check=False, timeout=90).returncode != 0
    failed = walked.run("systemctl show --property=Result,NRestarts,ExecMainStatus sp-proxy").stdout
    assert set(failed.split()) == {"Result=exit-code", "NRestarts=0", "ExecMainStatus=2"}
    last = walked.run("journalctl --unit=sp-proxy --identifier=sp-proxy --output=cat --lines=1").stdout
    assert "no_such_setting" in last
    configure(walked, right)
    walked.run("systemctl start sp-proxy", timeout=90)


@contextmanager
def with_settings(host: Host, **more: Any) -> Iterator[None]:
    """Those of the page and more, with another daemon; then those of the page again."""
    (text,) = blocks("Try it", "yaml")
    configure(host, yaml.safe_dump({**yaml.safe_load(text), **more}))
    restart(host)
    try:
        yield
    finally:
        configure(host, text)
        restart(host)


def errors(*loads: Load) -> Counter[str]:
    """How often each came."""
    return Counter(each.error for going in loads for each in going.failures)


def test_mitmproxy_and_addons_run_in_it_as_well(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    addon = "/etc/sp-proxy/mask_json_field.py"
    walked.write(addon, (ROOT / "addons" / Path(addon).name).read_text("utf-8"))
    with with_settings(walked, data_path="mitmproxy", addons={"files": [addon]}):
        redirected(walked, peer, vm.ipv4)
        journal = walked.run("journalctl --unit=sp-proxy --output=cat --since=-10min").stdout
        assert '"mitm_worker_ready"' in journal
        assert '"addon_started"' in journal
        assert '"addon_failed"' not in journal


def test_over_a_restart_and_a_death_nobody_is_refused(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    forward = {"listen": {"forward": [{"listen": f":{FORWARDED}", "upstream": "127.0.0.1:8080"}]}}
    with (
        with_settings(walked, **forward),
        load(peer, vm.ipv4, 8080, clients=2, path="/menu.json") as transparent,
        load(peer, vm.ipv4, FORWARDED, clients=2, path="/menu.json") as forwarded,
    ):

        def both(count: int) -> None:
            transparent.wait_for_more(count)
            forwarded.wait_for_more(count)

        both(5)
        pid = status_of(walked)["pid"]
        restart(walked)
        assert status_of(walked)["pid"] != pid
        both(5)
        redirected(walked, peer, vm.ipv4)
        assert errors(transparent, forwarded) == {}
        walked.run("systemctl kill --signal=KILL sp-proxy")
        both(5)
        redirected(walked, peer, vm.ipv4)
        # What it had in its hands is lost with it, and nobody was refused.
        lost = errors(transparent, forwarded)
        assert lost["ConnectionRefusedError"] == 0
        assert lost.total() <= 4, lost
        assert walked.run("systemctl show --property=NRestarts --value sp-proxy").stdout == "1\n"
    # A listener that the settings name no more is not kept either.
    listening = "ss --listening --tcp --numeric --no-header"
    eventually(lambda: walked.run(listening).stdout, lambda text: f":{FORWARDED} " not in text, "it is closed")


def test_stopped_for_good_nothing_listens_any_more(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    walked.run("systemctl stop sp-proxy", timeout=90)
    assert get(peer, vm.ipv4, 8080, "/menu.json")
    assert not re.search(r":160\d\d\b", walked.run("ss --listening --tcp --numeric --no-header").stdout)
    verified = walked.run(f"sp-proxy netfilter verify --config {CONFIG}").stdout
    assert "nothing is redirected yet" in verified
    walked.run("systemctl start sp-proxy", timeout=90)


def test_an_upgrade_leaves_settings_state_and_the_way_back(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    redirected(walked, peer, vm.ipv4)
    before, first = walked.read(CONFIG), walked.run("readlink -f /opt/sp-proxy/bin/sp-proxy").stdout.strip()
    # Two versions later than the one that runs, and an old one that nobody needs.
    skipped, forgotten = (f"/opt/sp-proxy/0.0.{number}-20000101000000" for number in (2, 1))
    walked.run(f"mkdir {skipped} {forgotten} && ln -sfn {skipped}/bin/sp-proxy /opt/sp-proxy/bin/sp-proxy")
    install, again = typed("Restart and upgrade", 0)
    follow(walked, install)
    assert walked.read(CONFIG) == before
    assert walked.run(f"test -e {forgotten}", check=False).returncode == 1
    walked.run(f"rmdir {skipped}")
    second = walked.run("readlink -f /opt/sp-proxy/bin/sp-proxy").stdout.strip()
    assert first != second
    captured = len(exchanges(walked))
    redirected(walked, peer, vm.ipv4)  # the old one goes on
    follow(walked, again)
    assert eventually(lambda: len(exchanges(walked)), bool, "the new one answers") >= captured
    assert runs(walked) == second
    listing, back = typed("Restart and upgrade", 1)
    versions = [name for name in follow(walked, listing).split() if name != "bin"]
    assert versions == sorted(Path(path).parts[3] for path in (first, second))
    follow(walked, back.replace("VERSION-DATE", versions[0]))
    restart(walked)
    assert runs(walked) == first


def test_a_port_below_1024_comes_from_a_socket_unit(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    (unit,) = blocks("A port below 1024", "ini")
    walked.write(unit.splitlines()[0].removeprefix("# "), unit)
    listener = re.search(r"`(\{listen: .*\})`", section("A port below 1024"))
    assert listener
    with with_settings_stopped(walked, listen={"forward": [yaml.safe_load(listener[1])]}):
        for line in typed("A port below 1024", 0):
            follow(walked, line)
        try:
            assert "coffee" in get(peer, vm.ipv4, 80, "/menu.json")
            assert "coffee" in get(peer, f"[{vm.ipv6}]", 80, "/menu.json")
            report = walked.run(f"sp-proxy doctor --config {CONFIG}", check=False).stdout
            assert "FAIL" not in "".join(line for line in report.splitlines() if " user " in line or " ports " in line)
        finally:
            walked.run("systemctl disable --now sp-proxy.socket sp-proxy", check=False, timeout=90)
            walked.run("rm /etc/systemd/system/sp-proxy.socket && systemctl daemon-reload")
    walked.run("systemctl enable --now sp-proxy", timeout=90)


@contextmanager
def with_settings_stopped(host: Host, **more: Any) -> Iterator[None]:
    """Those of the page and more, for a daemon that is not started yet; then those of the page."""
    (text,) = blocks("Try it", "yaml")
    configure(host, yaml.safe_dump({**yaml.safe_load(text), **more}))
    try:
        yield
    finally:
        configure(host, text)


def test_beside_istios_envoy(walked: Host, network: tuple[Namespace, Namespace]):
    """As Istio's package sets a virtual machine up: its own user, its own rules."""
    vm, peer = network
    (settings,) = blocks("Beside Istio's Envoy", "yaml")
    walked.run(f"useradd --system --uid {ENVOY_UID} --user-group istio-proxy")
    vm.run("ip", "address", "add", "::6/128", "dev", "lo")
    with home() as directory, echo(vm):
        envoy = Envoy(vm, directory / "envoy", {"vm.mesh": ECHO_PORT})
        trusted = write_certificate(directory / "trusted.pem", peer.ipv4)
        trusted.chmod(0o644)
        envoy.start(trusted)
        install_istio(vm, "iptables-nft")
        try:
            configure(walked, settings)
            for line in typed("Beside Istio's Envoy", 0):
                follow(walked, line)
            arrived = eventually(
                lambda: joined(json.loads(get(peer, vm.ipv4, ECHO_PORT, "/beside"))["headers"]),
                lambda fields: "x-sp-num" in fields,
                "the daemon is between Envoy and the application",
            )
            assert arrived["x-request-id"], "Envoy was on its way"
            verified = walked.run(typed("When nothing is captured", 0)[1]).stdout
            assert f"from Envoy (user {ENVOY_UID}, 127.0.0.6)" in verified
            assert "applied" in follow(walked, typed("When nothing is captured", 0)[2])
        finally:
            remove_istio(vm, "iptables-nft")
            envoy.kill()
            walked.run("systemctl stop sp-proxy-netfilter", timeout=90)


def test_to_be_rid_of_it(walked: Host, network: tuple[Namespace, Namespace]):
    vm, peer = network
    for line in typed("Try it", 7):
        follow(walked, line)
    left = walked.run("find / -xdev -name '*sp-proxy*' -not -path '/proc/*' -not -path '/tmp/*' -path '*/usr/local/*'")
    assert left.stdout == ""
    for path in ("/etc/sp-proxy", "/opt/sp-proxy", "/var/lib/sp-proxy"):
        assert walked.run(f"test -e {path}", check=False).returncode == 1
    assert walked.run("getent passwd sp-proxy", check=False).stdout == ""
    assert "sp_proxy" not in walked.run("nft list ruleset").stdout
    assert "sp-proxy" not in walked.run("systemctl list-units --all --plain --no-legend").stdout
    assert get(peer, vm.ipv4, 8080, "/menu.json")
