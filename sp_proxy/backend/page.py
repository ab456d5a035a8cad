"""The page: a few static files, read once, and the headers that keep captured content from becoming code.

Nothing is loaded from elsewhere, nothing stands inline, and the browser refuses to make markup of a string at all
(Trusted Types), so content can reach the page only as text.
"""

import hashlib
from importlib.resources import files

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


class StaticFile(Struct, frozen=True):
    """One file of the page."""

    body: bytes
    media_type: str
    etag: str


def load_files() -> dict[str, StaticFile]:
    """The files in ``static``, by request path; ``/`` is the page itself."""
    loaded = {}
    for entry in files("sp_proxy.backend").joinpath("static").iterdir():
        suffix = entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            body = entry.read_bytes()
            path = "/" if entry.name == "index.html" else f"/{entry.name}"
            loaded[path] = StaticFile(body, _TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return loaded


class Page:
    """The handler for those files."""

    def __init__(self) -> None:
        self._files = load_files()

    @property
    def paths(self) -> list[str]:
        """Request paths that it answers."""
        return sorted(self._files)

    async def file(self, request: Request) -> Response:
        """Answer one of ``paths``."""
        found = self._files[request.url.path]
        headers = {"etag": found.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.media_type)
