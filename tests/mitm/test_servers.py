"""Upstream connections and the loop guard."""

from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from sp_proxy.mitm.servers import OwnServers
from sp_proxy.relay.loop_guard import LoopGuard


def connected(local: tuple[str, int], peer: tuple[str, int]) -> ServerConnectionHookData:
    server = Server(address=peer)
    server.sockname, server.peername = local, peer
    return ServerConnectionHookData(server, Client(peername=("a", 1), sockname=("b", 2)))


def test_the_guard_knows_a_connection_while_it_is_there():
    guard = LoopGuard()
    addon = OwnServers(guard)
    data = connected(("10.0.0.1", 40000), ("10.0.0.2", 443))
    addon.server_connected(data)
    assert guard.is_ours(("10.0.0.1", 40000), ("10.0.0.2", 443))
    addon.server_disconnected(data)
    assert not guard.is_ours(("10.0.0.1", 40000), ("10.0.0.2", 443))
    addon.server_disconnected(data)


def test_one_that_is_gone_already():
    data = ServerConnectionHookData(Server(address=("a", 1)), Client(peername=("a", 1), sockname=("b", 2)))
    OwnServers(LoopGuard()).server_connected(data)
