"""Who may ask what (pure): the token, the public keys, and requests that a foreign web page made.

On loopback nothing is asked of programs, but a browser can be made to send requests there by any page it shows:
a foreign name that resolves to 127.0.0.1 (DNS rebinding) shows in ``Host``, a cross-origin request in
``Sec-Fetch-Site`` or ``Origin``. Elsewhere every request needs the token, or a listed public key for OTLP.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """Why a request is refused."""

    status: int
    message: str


class Guard(Struct, frozen=True):
    """The rules in force."""

    loopback: bool
    """Only loopback addresses are listened on."""
    token: str = ""
    public_keys: tuple[str, ...] = ()
    allowed_origins: frozenset[str] = frozenset()
    """Origins whose pages may ask (CORS)."""

    def refuse_page(self, method: str, headers: Mapping[str, str], *, navigation: bool) -> Refusal | None:
        """For the API and the page; ``navigation``: a page that another site may link to (it changes nothing)."""
        foreign = self.refuse_foreign(method, headers, navigation=navigation)
        if foreign:
            return foreign
        if self.token and not self._has_token(headers.get("authorization", "")):
            return Refusal(401, "the token is missing or wrong: send Authorization: Bearer TOKEN")
        return None

    def refuse_foreign(self, method: str, headers: Mapping[str, str], *, navigation: bool) -> Refusal | None:
        """What a web page of another origin, or of a rebound name, made a browser send."""
        host = headers.get("host", "")
        if self.loopback and not is_loopback_host(host):
            return Refusal(403, "the Host header must name this machine: localhost, 127.0.0.1 or [::1]")
        if (navigation and method in {"GET", "HEAD"}) or self.allows_origin(headers):
            return None
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return Refusal(403, "cross-origin requests are refused")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return Refusal(403, "cross-origin requests are refused")
        return None

    def allows_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a page of a configured origin asks."""
        return headers.get("origin", "") in self.allowed_origins

    def refuse_intake(self, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """For OTLP: programs send neither of these headers, so their ``Host`` is their own affair."""
        if "origin" in headers or "sec-fetch-site" in headers:
            return self.refuse_foreign(method, headers, navigation=False)
        return None

    def may_send(self, public_key: str, authorization: str) -> bool:
        """Whether a sender of OTLP is let in."""
        if self.public_keys:
            listed = [_same(public_key, key) for key in self.public_keys]
            return any(listed) or bool(self.token and self._has_token(authorization))
        return self.loopback or self._has_token(authorization)

    def _has_token(self, authorization: str) -> bool:
        return bool(self.token) and _same(presented_token(authorization), self.token)


def presented_token(authorization: str) -> str:
    """The token of an ``Authorization`` header: ``Bearer TOKEN``, or ``Basic`` with the token as password under any
    name, which is how a browser that was asked for a password sends it.
    """
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def is_loopback_host(host: str) -> bool:
    """Whether a ``Host`` header names this machine, with or without a port."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return False
    else:
        name, colon, port = host.partition(":")
        if colon and not _is_port(f":{port}"):
            return False
    return name.lower() == "localhost" or is_loopback_address(name)


def is_loopback_address(text: str) -> bool:
    """Whether a text is an address of the loopback network."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def only_loopback(addresses: Sequence[str]) -> bool:
    """Whether all the addresses are of the loopback network."""
    return all(is_loopback_address(address) for address in addresses)


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
