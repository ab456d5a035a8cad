"""Istio's rules are recognised in each form, and what cannot work beside them is refused."""

from functools import partial
from pathlib import Path

import pytest

from sp_proxy.netfilter import install, system
from sp_proxy.netfilter.others import Interception, Istio, check_istio, check_mode, find_istio
from sp_proxy.netfilter.rules import NetfilterError, Ruleset
from sp_proxy.settings.model import SettingsModel

DATA = Path(__file__).parents[1] / "e2e" / "istio"
SIDECAR = (DATA / "sidecar.rules.v4").read_text("ascii")
TPROXY = """\
*mangle
:ISTIO_DIVERT - [0:0]
:ISTIO_TPROXY - [0:0]
:ISTIO_INBOUND - [0:0]
-A ISTIO_DIVERT -j MARK --set-mark 1337
COMMIT
"""
AMBIENT = """\
*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_PRERT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
COMMIT
"""
BESIDE = Ruleset("beside-istio", ())


@pytest.mark.parametrize(
    "listings, saves, found",
    [
        ({}, {"iptables-nft": "*nat\n:DOCKER - [0:0]\nCOMMIT\n"}, None),
        ({}, {"iptables-nft": "", "iptables-legacy": SIDECAR}, Istio(Interception.REDIRECT, "iptables-legacy")),
        ({}, {"iptables-nft": SIDECAR + TPROXY}, Istio(Interception.TPROXY, "iptables-nft")),
        ({}, {"iptables-nft": AMBIENT}, Istio(Interception.AMBIENT, "iptables-nft")),
        ({"inet istio-proxy-nat": "chain istio-output"}, {}, Istio(Interception.REDIRECT, "nft")),
        (
            {"inet istio-proxy-nat": "", "inet istio-proxy-mangle": "tproxy ip to :15006"},
            {},
            Istio(Interception.TPROXY, "nft"),
        ),
        ({"inet istio-ambient-nat": ""}, {}, Istio(Interception.AMBIENT, "nft")),
    ],
)
def test_istio_is_told_by_its_chains_and_tables(listings, saves, found):
    assert find_istio(listings, saves) == found


@pytest.mark.parametrize(
    "istio, ruleset, writer, message",
    [
        (Istio(Interception.TPROXY, "nft"), BESIDE, "nft", r"sidecar\.istio\.io/interceptionMode: REDIRECT"),
        (Istio(Interception.AMBIENT, "nft"), BESIDE, "nft", r"istio\.io/dataplane-mode: none"),
        (Istio(Interception.REDIRECT, "nft"), Ruleset("standalone", ()), "nft", "set netfilter.mode to beside-istio"),
        (Istio(Interception.REDIRECT, "nft"), BESIDE, "iptables-nft", "use --writer nft$"),
        (Istio(Interception.REDIRECT, "iptables-nft"), BESIDE, "iptables-legacy", "use --writer nft or iptables-nft$"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(istio, ruleset, writer, message):
    with pytest.raises(NetfilterError, match=message) as caught:
        check_istio(istio, ruleset, writer)
    assert "\n" not in str(caught.value)


def test_what_works_is_let_through():
    check_istio(None, Ruleset("standalone", ()), "iptables-nft")
    check_mode(None, Ruleset("standalone", ()))
    for writer in ("nft", "iptables-legacy"):
        check_istio(Istio(Interception.REDIRECT, "iptables-legacy"), BESIDE, writer)


@pytest.mark.parametrize("form", ["iptables-nft", "iptables-legacy"])
def test_what_the_kernel_holds_is_recognised(site, form):
    read = partial(site.pod.call, lambda: system.read_istio(system.find_tools()))
    assert read() is None
    site.pod.run(f"{form}-restore", "--noflush", stdin=SIDECAR)
    assert read() == Istio(Interception.REDIRECT, form)
    with pytest.raises(NetfilterError, match=r"set netfilter\.mode to beside-istio"):
        site.pod.call(lambda: install.prepare_apply(SettingsModel(), "nft"))
    site.pod.run(f"{form}-restore", "--noflush", stdin=TPROXY)
    settings = SettingsModel.model_validate({"netfilter": {"mode": "beside-istio"}})
    with pytest.raises(NetfilterError, match="TPROXY"):
        site.pod.call(lambda: install.prepare_apply(settings, "nft"))


def test_native_nftables_are_recognised(site):
    site.pod.run("nft", "-f", str(DATA / "sidecar.nft"))
    assert site.pod.call(lambda: system.read_istio(system.find_tools())) == Istio(Interception.REDIRECT, "nft")
    with pytest.raises(NetfilterError, match="beside-istio"):
        site.pod.call(lambda: list(install.verify(SettingsModel(), None)))
