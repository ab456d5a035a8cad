"""A backend with something in it, for the subcommands that ask one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backend.requests import request_of
from tests.backend.serving import threaded

PROTOBUF = {"content-type": "application/x-protobuf"}


def send(url: str, *spans: Span) -> None:
    body = request_of(*spans).SerializeToString()
    assert httpx.post(f"{url}/v1/traces", content=body, headers=PROTOBUF).status_code == 200


@contextmanager
def holding(*spans: Span, **settings: Any) -> Iterator[str]:
    with threaded(**settings) as url:
        send(url, *spans)
        yield url
