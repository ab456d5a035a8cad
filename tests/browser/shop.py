"""The demo itself, on this host: three services, their daemons, the backend and customers, for what needs daemons."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sp_proxy.demo.counts import Books
from sp_proxy.demo.inquiries import BackendApi
from sp_proxy.demo.shop.customers import Traffic
from sp_proxy.demo.stage import Stage, reserve_port
from tests.browser.processes import BackendProcess

REQUESTS = 40
PATIENCE = 60.0
"""Seconds for the last exchanges to arrive, on a machine that has other things to do."""


@contextmanager
def open_shop(directory: Path) -> Iterator[BackendProcess]:
    """Its backend, once everything that the customers did has arrived there. All of it runs until the block ends."""
    with ExitStack() as stack:
        stage = Stage(directory, stack, time.sleep)
        stage.settle_on_host()
        with ExitStack() as reserved:
            port = reserve_port(reserved)
        stage.claim_backend_port(port)
        stage.start_backend()
        stage.start_shop()
        customers = stage.start_customers("r", Traffic(REQUESTS))
        customers.process.wait(PATIENCE)
        stage.finish_traffic(customers)
        _wait_for(stage.backend, Books(*stage.calls.snapshot(), {}, 0).expected_total)
        yield BackendProcess(stage.backend.url.rstrip("/"))


def _wait_for(backend: BackendApi, exchanges: int) -> None:
    """Until all of them are stored, and the daemons know it."""
    deadline = time.monotonic() + PATIENCE
    while (found := (backend.stored(), _accepted(backend))) != (exchanges, exchanges):
        assert time.monotonic() < deadline, (found, exchanges)
        time.sleep(0.2)


def _accepted(backend: BackendApi) -> int:
    statuses = [daemon["status"] for daemon in backend.json("/api/v1/daemons")["daemons"]]
    return sum(delivery["accepted"] for status in statuses if status for delivery in status["deliveries"])
