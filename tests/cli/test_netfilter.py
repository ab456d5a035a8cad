"""The command line as people and init containers use it: real processes, exit codes, one line an error."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from sp_proxy.cli import netfilter
from sp_proxy.cli.main import main
from tests.netns import Namespace
from tests.requirements import require_root_tools

DEPLOY = Path(__file__).parents[2] / "deploy" / "iptables"


@pytest.fixture
def pod():
    require_root_tools("ip", "nft", "iptables", "ip6tables", "setpriv")
    with Namespace("cli") as namespace:
        yield namespace


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def sp_proxy(pod, *arguments):
    """Runs a subcommand in the pod; in this process, since starting another one takes most of a second."""
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        code = pod.call(lambda: main(["netfilter", *arguments]))
    return Done(code, stdout.getvalue(), stderr.getvalue())


MODES = ["standalone", "beside-istio", "inbound-only", "outbound-only"]
SUFFIXES = {"text": "txt", "nft": "nft", "iptables": "rules.v4", "ip6tables": "rules.v6"}


@pytest.mark.parametrize("form, suffix", SUFFIXES.items())
@pytest.mark.parametrize("mode", MODES)
def test_the_examples_are_what_the_generator_writes(capsys, mode, form, suffix):
    assert main(["netfilter", "show", "--format", form, "--set", f"netfilter.mode={mode}"]) == 0
    assert capsys.readouterr().out == (DEPLOY / f"{mode}.{suffix}").read_text("utf-8")


@pytest.mark.parametrize("mode", MODES)
def test_the_examples_are_accepted_by_the_tools(pod, mode):
    pod.run("nft", "-f", str(DEPLOY / f"{mode}.nft"))
    pod.run("iptables-restore", "--noflush", str(DEPLOY / f"{mode}.rules.v4"))
    pod.run("ip6tables-restore", "--noflush", str(DEPLOY / f"{mode}.rules.v6"))


def test_show_obeys_settings_and_needs_no_privilege(capsys):
    assert main(["netfilter", "show", "--set", "netfilter.mode=inbound-only", "--set", "listen.inbound=17006"]) == 0
    out = capsys.readouterr().out
    assert "redirect to port 17006" in out
    assert "outbound: nothing is redirected" in out
    assert main(["netfilter", "show", "--set", "netfilter.ipv6=false", "--format", "ip6tables"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("writer", ["auto", "nft", "iptables", "iptables-nft", "iptables-legacy"])
def test_apply_verify_and_remove_twice_each(pod, writer):
    assert sp_proxy(pod, "verify").returncode == 1
    for _ in range(2):
        applied = sp_proxy(pod, "apply", "--writer", writer)
        assert (applied.returncode, applied.stderr) == (0, "")
        verified = sp_proxy(pod, "verify", "--writer", writer)
        assert (verified.returncode, verified.stderr) == (0, "")
        assert "redirected to port 16006" in verified.stdout
    for said in ("removed what", "nothing to remove"):
        removed = sp_proxy(pod, "remove")
        assert (removed.returncode, removed.stderr) == (0, "")
        assert removed.stdout.startswith(said)


def test_a_dry_run_changes_nothing_and_its_output_is_a_script(pod):
    script = sp_proxy(pod, "apply", "--dry-run", "--writer", "iptables").stdout
    assert sp_proxy(pod, "verify").returncode == 1
    pod.run("sh", "-e", stdin=script)
    assert sp_proxy(pod, "verify").returncode == 0
    pod.run("sh", "-e", stdin=sp_proxy(pod, "remove", "--dry-run").stdout)
    assert sp_proxy(pod, "remove", "--dry-run").stdout == ""


def test_the_configuration_file_is_read(pod, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("listen: {inbound: off}\nnetfilter: {writer: nft, outbound_exclude_ports: [5432]}\n", "ascii")
    assert "with nft" in sp_proxy(pod, "apply", "-c", str(file)).stdout
    assert sp_proxy(pod, "verify", "-c", str(file)).returncode == 0
    others = sp_proxy(pod, "verify")
    assert others.returncode == 1
    assert others.stderr == (
        "sp-proxy: the rules in the kernel are not those of these settings: sp-proxy netfilter apply writes them\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_it_while_it_tries_has_the_earlier_rules(pod, number, tmp_path):
    assert sp_proxy(pod, "apply", "--writer", "nft", "--set", "netfilter.outbound_exclude_ports=[5432]").returncode == 0
    before = pod.run("nft", "-s", "list", "ruleset").stdout
    tried, ip = tmp_path / "tried", tmp_path / "ip"  # what verify needs late, and where it is held here
    ip.write_text(f"#!/bin/sh\n: >{tried}\nexec sleep 60\n", "ascii")
    ip.chmod(0o755)
    command = (sys.executable, "-m", "sp_proxy.cli.main", "netfilter", "apply", "--writer", "nft")
    environ = ("--default-signal=HUP", f"PATH={tmp_path}:{os.environ['PATH']}")  # under nohup too
    process = pod.popen("env", *environ, *command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not tried.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert pod.run("nft", "-s", "list", "ruleset").stdout != before
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert stderr == f"sp-proxy: {number.name}: taking back what is written and not tried\n"
    assert pod.run("nft", "-s", "list", "ruleset").stdout == before


def test_a_terminal_that_has_gone_does_not_hinder_it(monkeypatch):
    def fail(_line):
        raise OSError("Input/output error")

    monkeypatch.setattr(netfilter, "say", fail)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, netfilter._ended_in_order():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["apply", "--set", "netfilter.user=no-such-user"], 2, "no user named 'no-such-user' here; create it"),
        (["apply", "--set", "netfilter.outbound_exclude_cidrs=[10.0.0.1/8]"], 2, "10.0.0.0/8"),
        (["apply", "--set", "netfilter.outbound_exclude_cidrs=[nonsense]"], 2, "allowed: a network"),
        (["apply", "--set", "netfilter.inbound_include_ports=[70000]"], 2, "a port (1 to 65535) or a range"),
        (["apply", "--set", "netfilter.mode=sidecar"], 2, "standalone"),
        (["apply", "--writer", "pf"], 2, "--writer"),
        (["verify", "--set", "listen.outbound=127.0.0.1:1"], 2, "give the port alone"),
        (["show", "--set", "listen.inbound=off", "--set", "listen.outbound=off"], 2, "nothing to redirect"),
        (["apply", "-c", "no-such-file.yaml"], 2, "no-such-file.yaml"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, code, message):
    assert main(["netfilter", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if "warning:" not in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_without_net_admin_it_is_one_line_with_the_remedy(pod):
    command = (sys.executable, "-m", "sp_proxy.cli.main", "netfilter")
    for action in ("apply", "remove", "verify"):
        done = pod.run("setpriv", "--bounding-set=-net_admin", "--", *command, action, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("sp-proxy: not permitted: ")
        assert "NET_ADMIN" in done.stderr
        assert done.stderr.count("\n") == 1


def test_probes_that_are_not_permitted_are_skipped_with_the_reason(pod):
    assert sp_proxy(pod, "apply").returncode == 0
    command = (sys.executable, "-m", "sp_proxy.cli.main", "netfilter", "verify")
    done = pod.run("setpriv", "--bounding-set=-sys_admin,-setuid", "--", *command, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "skip  inbound   not probed: a network namespace needs CAP_SYS_ADMIN" in done.stdout


def test_the_init_container_applies_and_verifies_and_takes_back_what_does_not_work(pod):
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = pod.run(str(DEPLOY / "init.sh"), env=path)
    assert "applied 19 rules" in done.stdout
    assert "ok    inbound" in done.stdout
    thief = "table inet thief { chain p { type nat hook prerouting priority -150; tcp dport 9 redirect to :1; }; }"
    pod.run("nft", "-f", "-", stdin=thief)
    done = pod.run(str(DEPLOY / "init.sh"), env=path, check=False)
    assert done.returncode == 1
    assert "FAIL  inbound" in done.stdout
    assert "removing them" in done.stderr
    assert "nothing to remove" in sp_proxy(pod, "remove").stdout
