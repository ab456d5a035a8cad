"""Where a redirected connection was going before the firewall changed its destination.

Linux keeps it with the connection's NAT entry: ``SO_ORIGINAL_DST`` (linux/netfilter_ipv4.h) and
``IP6T_SO_ORIGINAL_DST`` (linux/netfilter_ipv6/ip6_tables.h), both option 80. They are not in Python's ``socket``.
"""

import socket
import struct

_SO_ORIGINAL_DST = 80
_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6 = struct.Struct("!2xH4x16s4x")


def original_dst(sock: socket.socket) -> tuple[str, int] | None:
    """Address and port, or None: this connection was not redirected (or the kernel has forgotten it)."""
    try:
        if sock.family == socket.AF_INET:
            port, host = _SOCKADDR_IN.unpack(sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size))
        else:
            port, host = _SOCKADDR_IN6.unpack(
                sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
            )
    except OSError:
        return None
    return socket.inet_ntop(sock.family, host), port
