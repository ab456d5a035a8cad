"""The connection to ClickHouse's HTTP interface, by clickhouse-connect."""

from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.httputil import get_pool_manager

from sp_proxy.backend.clickhouse.schema import Place
from sp_proxy.backend.clickhouse.store import Client
from sp_proxy.settings.backend import ClickHouse

CONNECT_TIMEOUT = 5
ANSWER_TIMEOUT = 60
CONNECTIONS = 8


def place_of(settings: ClickHouse) -> Place:
    """Where the tables are."""
    return Place(settings.database, settings.cluster or "")


def connector(settings: ClickHouse) -> Callable[[], Client]:
    """What makes a client. It asks the server at once, so it raises when nobody answers."""
    url = urlsplit(settings.url)
    secure = url.scheme == "https"

    def connect() -> Client:
        client = clickhouse_connect.get_client(
            host=url.hostname or "127.0.0.1",
            port=url.port or (8443 if secure else 8123),
            secure=secure,
            username=settings.user,
            password=settings.password.get_secret_value(),
            connect_timeout=CONNECT_TIMEOUT,
            send_receive_timeout=ANSWER_TIMEOUT,
            # Several threads ask at once, which one session does not allow.
            autogenerate_session_id=False,
            pool_mgr=get_pool_manager(maxsize=CONNECTIONS, num_pools=1),
            client_name="sp_proxy",
        )
        return cast("Client", client)

    return connect
