"""A client of the backend's API, for the command line: pages, live updates, downloads.

What goes wrong is an ``AskError`` with one line for a person. Nothing here prints.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx
from msgspec import Struct

API = "/api/v1"
TIMEOUT = 30.0
SILENCE = 45.0
"""Seconds without even a heartbeat (they come every 15) after which a live stream is taken for dead."""
PAGE = 500


class AskError(Exception):
    """What went wrong, in one line; ``mistake``: by the fault of who asked (a wrong query), so asking again is no use."""

    def __init__(self, line: str, *, mistake: bool = False) -> None:
        super().__init__(line)
        self.mistake = mistake


class Event(Struct, frozen=True):
    """One server-sent event."""

    name: str
    data: Any


class Client:
    """One backend."""

    def __init__(self, url: str, token: str = "") -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(TIMEOUT, read=SILENCE)
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """One answer. Raises AskError; an answer 404 is None."""
        with self._failing():
            response = self._http.get(API + path, params=parameters)
            if response.status_code == 404:
                return None
            _check(response)
            return response.json()

    def exchanges(self, query: str, limit: int) -> Iterator[dict[str, Any]]:
        """Exchanges, newest first; the search goes on over short pages. Raises AskError."""
        before, left = "", limit
        while left > 0:
            page = self.get("/exchanges", q=query, before=before, limit=min(left, PAGE))
            yield from page["exchanges"]
            left -= len(page["exchanges"])
            before = page["next"]
            if not before:
                return

    @contextmanager
    def live(self, query: str) -> Iterator[Iterator[Event]]:
        """Live updates, listening from when the block begins. Raises AskError."""
        with self._failing(), self._http.stream("GET", f"{API}/live", params={"q": query}) as response:
            if response.status_code != 200:
                response.read()
            _check(response)
            yield _events(response.iter_bytes())

    def download(self, form: str, query: str, write: Callable[[bytes], object], limit: int = 0) -> None:
        """An export, handed on as it comes. Raises AskError."""
        parameters: dict[str, str | int] = {"q": query, **({"limit": limit} if limit else {})}
        with self._failing(), self._http.stream("GET", f"{API}/export/{form}", params=parameters) as response:
            if response.status_code != 200:
                response.read()
            _check(response)
            for data in response.iter_bytes():
                write(data)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise AskError(f"{self.url}: nobody answers ({error}); sp-proxy backend runs one") from error
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise AskError(
                f"{self.url}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            ) from error


def _check(response: httpx.Response) -> None:
    if response.status_code == 200:
        return
    try:
        reason = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        reason = f"status {response.status_code}, not the answer of sp-proxy's backend"
    mistake = response.status_code == 400
    raise AskError(reason.removeprefix("q: "), mistake=mistake)


def _events(chunks: Iterator[bytes]) -> Iterator[Event]:
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields: Mapping[str, str] = dict(
                line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":") and ": " in line
            )
            if "event" in fields:
                yield Event(fields["event"], json.loads(fields.get("data", "null")))
