"""HTTP clients that run inside a namespace: curl as a program, httpx in a thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tests.e2e.harness import TIMEOUT
from tests.netns import Namespace


@dataclass(frozen=True)
class Answer:
    """What the client got. Names of header fields are in lower case."""

    status: int
    headers: dict[str, str]
    body: str


Client = Callable[[Namespace, str, str, Mapping[str, str], str], Answer]
"""Takes where from, method, URL, header fields, body."""


def curl(namespace: Namespace, method: str, url: str, headers: Mapping[str, str], body: str = "") -> Answer:
    """With ``--compressed``, as many scripts have it; all else is curl's own way."""
    fields = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
    sent = ["--data-binary", body] if body else []
    shape = ["--head"] if method == "HEAD" else ["--request", method]
    done = namespace.run(
        *("curl", "--silent", "--show-error", "--globoff", "--compressed", "--max-time", str(TIMEOUT)),
        *("--dump-header", "/dev/stderr", *shape, *fields, *sent, url),
    )
    status_line, *lines = done.stderr.strip().splitlines()
    received = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return Answer(int(status_line.split()[1]), received, "" if method == "HEAD" else done.stdout)


def httpx_client(namespace: Namespace, method: str, url: str, headers: Mapping[str, str], body: str = "") -> Answer:
    def inside() -> Answer:
        with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
            response = client.request(method, url, headers=dict(headers), content=body or None)
            return Answer(response.status_code, dict(response.headers), response.text)

    return namespace.call(inside)


CLIENTS: dict[str, Client] = {"curl": curl, "httpx": httpx_client}
