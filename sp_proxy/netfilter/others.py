"""Rules of others in the same network namespace, as far as they forbid ours: Istio's, in each of its forms. Pure.

What Istio's own tools write is told by the names of its chains and tables (istio-iptables, istio-nftables and the CNI agent of
ambient mode, Istio 1.27).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from sp_proxy.netfilter.rules import NetfilterError, Ruleset

_AMBIENT_CHAIN = re.compile(r"^:ISTIO_PRERT ", re.MULTILINE)
_TPROXY_CHAIN = re.compile(r"^:ISTIO_TPROXY ", re.MULTILINE)
_SIDECAR_CHAIN = re.compile(r"^:ISTIO_(?:OUTPUT|INBOUND|REDIRECT|IN_REDIRECT) ", re.MULTILINE)
NFT_TABLES = ("inet istio-proxy-nat", "inet istio-proxy-mangle", "inet istio-ambient-nat")


class Interception(StrEnum):
    """How Istio takes connections."""

    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"
    AMBIENT = "ambient"


@dataclass(frozen=True, slots=True)
class Istio:
    """Istio's rules here."""

    interception: Interception
    written_by: str
    """``nft``, ``iptables-nft`` or ``iptables-legacy``."""


def find_istio(listings: dict[str, str], saves: dict[str, str]) -> Istio | None:
    """Istio's rules; None where there are none.

    ``listings`` has what nft says of each table of ``NFT_TABLES`` that exists; ``saves`` what the iptables tools save of
    their nat and mangle tables, by the form of the tool.
    """
    if "inet istio-ambient-nat" in listings:
        return Istio(Interception.AMBIENT, "nft")
    if "tproxy" in listings.get("inet istio-proxy-mangle", ""):
        return Istio(Interception.TPROXY, "nft")
    if "inet istio-proxy-nat" in listings:
        return Istio(Interception.REDIRECT, "nft")
    for form, text in saves.items():
        if _AMBIENT_CHAIN.search(text):
            return Istio(Interception.AMBIENT, form)
        if _TPROXY_CHAIN.search(text):
            return Istio(Interception.TPROXY, form)
        if _SIDECAR_CHAIN.search(text):
            return Istio(Interception.REDIRECT, form)
    return None


def check_istio(istio: Istio | None, ruleset: Ruleset, writer: str) -> None:
    """Raises ``NetfilterError``, with the remedy, if ``writer`` cannot write these rules beside Istio's."""
    check_mode(istio, ruleset)
    if istio is not None and writer not in {"nft", istio.written_by}:
        raise NetfilterError(
            f"rules of {writer} would come after Istio's, which {istio.written_by} has written before: "
            f"use --writer {' or '.join(dict.fromkeys(['nft', istio.written_by]))}"
        )


def check_mode(istio: Istio | None, ruleset: Ruleset) -> None:
    """Raises ``NetfilterError``, with the remedy, if the mode of the rules is not for what Istio does here."""
    if istio is None:
        return
    if istio.interception is Interception.TPROXY:
        raise NetfilterError(
            "Istio intercepts with TPROXY here, so what Envoy hands to the application cannot be told from other "
            "traffic: annotate the pod with sidecar.istio.io/interceptionMode: REDIRECT"
        )
    if istio.interception is Interception.AMBIENT:
        raise NetfilterError(
            "Istio's ambient mode is on here: there is no Envoy in this pod to stand beside, and ztunnel takes what "
            "the daemon would: label the pod istio.io/dataplane-mode: none, with or without a sidecar"
        )
    if ruleset.mode != "beside-istio":
        raise NetfilterError(
            f"Istio's rules are here, and in mode {ruleset.mode} the daemon would stand on the wrong side of Envoy: "
            "set netfilter.mode to beside-istio"
        )
