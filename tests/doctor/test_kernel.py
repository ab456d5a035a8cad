"""The kernel's limits."""

import os
import resource

import pytest

from sp_proxy.doctor import kernel
from sp_proxy.doctor.findings import Verdict
from sp_proxy.netfilter.system import Tools


@pytest.mark.parametrize(
    "release, verdict", [("6.1.0-18-amd64", "ok"), ("5.4.0", "ok"), ("4.19.0", "warn"), ("odd", "ok")]
)
def test_versions(release, verdict):
    assert kernel.judge_version(release).verdict == verdict


def test_tools():
    assert kernel.judge_tools(Tools(nft=False, iptables={}, default="")).verdict is Verdict.WARN
    found = kernel.judge_tools(Tools(nft=True, iptables={"iptables-nft": "iptables"}, default="iptables-nft"))
    assert found.text == "tools for rules: nft, iptables-nft"


@pytest.mark.parametrize("count, verdicts", [(10, ["ok"]), (99, ["FAIL"])])
def test_the_table_of_connections(tmp_path, count, verdicts):
    (tmp_path / "netfilter").mkdir()
    (tmp_path / "netfilter" / "nf_conntrack_count").write_text(f"{count}\n")
    (tmp_path / "netfilter" / "nf_conntrack_max").write_text("100\n")
    assert [each.verdict for each in kernel.judge_limits(tmp_path)] == verdicts


def test_the_queue_of_connections(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "somaxconn").write_text("128\n")
    (found,) = kernel.judge_limits(tmp_path)
    assert found.advice == "sysctl -w net.core.somaxconn=4096"
    (tmp_path / "core" / "somaxconn").write_text("4096\n")
    assert list(kernel.judge_limits(tmp_path)) == []


def test_descriptors():
    assert kernel.judge_descriptors(1024, "the daemon").verdict is Verdict.WARN
    assert kernel.judge_descriptors(65536, "the daemon").verdict is Verdict.OK
    assert "any number" in kernel.judge_descriptors(-1, "it").text
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert kernel.descriptor_limit(os.getpid()) == (hard, "the daemon")
    assert kernel.descriptor_limit(2**22 + 1)[1] == "a process that is started here"
