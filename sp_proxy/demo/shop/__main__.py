"""``python -m sp_proxy.demo.shop ROLE``: one process of the shop. SIGTERM ends it. A listening socket may be inherited.

Standard output has the calls that it makes (``report.py``).
"""

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence

from sp_proxy.demo.shop.client import Peer
from sp_proxy.demo.shop.customers import Traffic, drive
from sp_proxy.demo.shop.inventory import Inventory
from sp_proxy.demo.shop.orders import OrderBook, Orders
from sp_proxy.demo.shop.payment import Payment
from sp_proxy.demo.shop.report import CUSTOMERS
from sp_proxy.demo.shop.server import Server, Service


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sp_proxy.demo.shop", allow_abbrev=False)
    parser.add_argument("role", choices=[CUSTOMERS, Orders.name, Inventory.name, Payment.name])
    parser.add_argument("--listen", type=_address, help="of a service: HOST:PORT")
    parser.add_argument("--listen-fd", type=int, help="of a service, instead: a socket that listens already")
    parser.add_argument("--orders", type=_address, help="of the customers: where they find it")
    parser.add_argument("--inventory", type=_address, help="of orders: where it finds it")
    parser.add_argument("--payment", type=_address, help="of orders: where it finds it")
    parser.add_argument("--run", default="", help="ends the session ids")
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--slow-pause", type=float, default=None)
    return parser


def _service(given: argparse.Namespace) -> Callable[[], Service]:
    """What serves a new connection."""
    match given.role:
        case Inventory.name:
            return Inventory
        case Payment.name:
            return Payment
    book = OrderBook()

    def connect() -> Service:
        peers = (Peer(Orders.name, name, getattr(given, name)) for name in (Inventory.name, Payment.name))
        return Orders(book, *peers)

    return connect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one role until its work is done or SIGTERM."""
    given = _parser().parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if given.role == CUSTOMERS:
        drive(given.orders, given.run, Traffic(given.requests, given.pause, given.slow_pause), stop)
        return 0
    listening = socket.create_server(given.listen) if given.listen else socket.socket(fileno=given.listen_fd)
    with Server(listening, _service(given)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stop.wait()
        server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
