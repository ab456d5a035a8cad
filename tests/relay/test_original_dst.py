"""The original destination of a connection that was really redirected, and of one that was not."""

import socket

import pytest

from sp_proxy.relay.original_dst import original_dst
from tests.netns import Namespace
from tests.requirements import require_root_tools


@pytest.mark.parametrize("host, tool", [("127.0.0.1", "iptables"), ("::1", "ip6tables")])
def test_a_redirected_connection(host: str, tool: str) -> None:
    require_root_tools("ip", tool)

    def redirected() -> tuple[str, int] | None:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.bind((host, 16001))
            listener.listen()
            with socket.create_connection((host, 8080), timeout=5), listener.accept()[0] as accepted:
                return original_dst(accepted)

    with Namespace("pod") as namespace:
        namespace.run(
            tool, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "8080", "-j", "REDIRECT", "--to-ports", "16001"
        )
        assert namespace.call(redirected) == (host, 8080)


def test_a_connection_that_was_not_redirected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), listener.accept()[0] as accepted:
            # where nothing is tracked the kernel knows nothing; where it is, it names the address itself
            assert original_dst(accepted) in (None, address)
