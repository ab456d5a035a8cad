"""Probes tell the truth about connections, with and without rules in between."""

import os
import socket
from functools import partial

import pytest

from sp_proxy.netfilter import probes
from sp_proxy.netfilter.probes import Answer
from sp_proxy.netfilter.rules import NetfilterError
from tests.netfilter.conftest import OUTSIDE
from tests.netns import Namespace
from tests.requirements import require_root_tools

REJECT = "table inet f { chain i { type filter hook input priority 0; tcp dport 9 reject with tcp reset; tcp dport 10 drop; }; }"


def test_a_route_is_known_by_its_source_address(site):
    assert site.pod.call(partial(probes.route_source, OUTSIDE[4])) == site.pod.ipv4
    assert site.pod.call(partial(probes.route_source, OUTSIDE[6])) == site.pod.ipv6
    with Namespace("alone") as alone:
        assert not alone.call(partial(probes.route_source, OUTSIDE[4]))


@pytest.mark.parametrize("family", [4, 6])
def test_every_answer_is_told_apart(site, family):
    def answer(port: int, address: str = OUTSIDE[family]) -> Answer:
        found: Answer = site.pod.call(partial(probes.connect, address, port, 0.3))
        return found

    site.outside.run("nft", "-f", "-", stdin=REJECT)
    assert answer(80) is Answer.CONNECTED
    assert answer(9) is Answer.REFUSED
    assert answer(10) is Answer.SILENCE
    unreachable = "203.0.113.1" if family == 4 else "2001:db8:9::1"
    site.pod.run("ip", f"-{family}", "route", "add", "unreachable", unreachable)
    assert answer(80, unreachable) is Answer.UNREACHABLE


@pytest.mark.parametrize("family", [4, 6])
def test_a_socket_belongs_to_the_user_it_is_opened_for_and_only_that_one(site, family):
    count = 'table inet c { chain o { type filter hook output priority 0; meta skuid 4242 counter comment "4242"; }; }'
    site.pod.run("nft", "-f", "-", stdin=count)

    def attempt() -> int:
        probes.connect(OUTSIDE[family], 80, 1.0, user=4242)
        with socket.create_connection((OUTSIDE[family], 80), 1.0) as connection:
            return os.fstat(connection.fileno()).st_uid

    assert site.pod.call(attempt) == os.geteuid(), "the thread has its own user again"
    assert "packets 0 " not in site.pod.run("nft", "list", "table", "inet", "c").stdout


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_own_listener_is_reached_unless_something_takes_its_connections(site, address):
    assert site.pod.call(partial(probes.reaches_own_listener, address))
    take = "table inet t { chain o { type nat hook output priority -50; meta l4proto tcp redirect to :16001; }; }"
    site.pod.run("nft", "-f", "-", stdin=take)
    assert not site.pod.call(partial(probes.reaches_own_listener, address))


def test_where_no_listener_can_be_opened_it_is_told():
    with pytest.raises(NetfilterError, match="cannot listen there"):
        probes.reaches_own_listener("203.0.113.1")


def test_the_outside_peer_connects_from_outside_and_leaves_nothing(site):
    def inside() -> list[Answer]:
        with probes.outside_peer((4, 6)) as peer:
            return [peer.call(partial(probes.connect, str(peer.ends(family)[0]), 8080, 1.0)) for family in (4, 6)]

    before = site.pod.run("ip", "-o", "link").stdout
    assert site.pod.call(inside) == [Answer.CONNECTED, Answer.CONNECTED]
    assert site.pod.run("ip", "-o", "link").stdout == before


def test_a_peer_that_cannot_be_made_is_one_line_and_leaves_nothing(monkeypatch, tmp_path):
    require_root_tools("ip")
    with Namespace("alone") as alone:
        before = alone.run("ip", "-o", "link").stdout

        def inside() -> None:
            with probes.outside_peer((4,)):
                raise AssertionError("there is no ip to make a link with")

        with monkeypatch.context() as patch:
            patch.setenv("PATH", str(tmp_path))
            with pytest.raises(NetfilterError, match="apt-get install iproute2"):
                alone.call(inside)
        assert alone.run("ip", "-o", "link").stdout == before


def test_an_error_in_the_block_still_takes_the_link_away(site):
    def inside() -> None:
        with probes.outside_peer((4, 6)):
            raise KeyError("in the block")

    before = site.pod.run("ip", "-o", "link").stdout
    with pytest.raises(KeyError, match="in the block"):
        site.pod.call(inside)
    assert site.pod.run("ip", "-o", "link").stdout == before
