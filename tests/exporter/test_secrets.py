"""Secrets planted in more than fifty places of exchanges appear nowhere: not in uploads, not in the spool's files, not in
logs, metrics or the status. The exporter, its spool and the backend are real.
"""

import base64
import binascii
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import brotli
import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from msgspec import structs
from prometheus_client.exposition import generate_latest
from structlog.testing import capture_logs

from sp_proxy import regex
from sp_proxy.admin.metrics import SupervisorStats, build_registry
from sp_proxy.admin.status import status_document
from sp_proxy.channel.frames import Records
from sp_proxy.core.exchange import Exchange, WebSocketMessage, WebSocketSummary
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.detectors import has_check_digit
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form
from tests.exporter.rig import make_exchange, open_rig
from tests.misbehaving_backend import answer, open_backend

REDACTION: dict[str, Any] = {
    "rules": [
        {
            "headers": ["x-api-key", "x-secret-*"],
            "header_patterns": ["^x-[a-z]+-pin$"],
            "query": ["token", "*_key"],
            "form": ["password", "pin*"],
            "json_paths": ["$..password", "$.cards[*].pan", "a.b[1].c", "$['odd key']", "$.whole"],
            "cookies": ["session*"],
            "text": [r"(?i)ssn[: ]+([0-9A-Z-]+)"],
        },
        {"headers": ["x-hashed"], "json_paths": ["$.hashed"], "query": ["hashed"], "action": "hash"},
        {"headers": ["x-dropped"], "json_paths": ["$.dropped"], "form": ["dropped"], "action": "drop"},
    ],
    "detectors": {"email": "replace"},
    "salt": "a salt of some length",
    "send_cookies": True,
}

Make = Callable[[str], dict[str, Any]]
"""The values of an exchange with a secret in it."""
JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"


# ---- secrets, each in one place only


def word(number: int) -> str:
    return f"Pl4nted{number:03}S3cretOf{number * 7919 % 1000:03}"


def card(number: int) -> str:
    digits = f"4{number:03}{number * 7919 % 1000:03}55512344"
    return next(digits + str(last) for last in range(10) if has_check_digit((digits + str(last)).encode()))


def jwt(number: int) -> str:
    part = base64.urlsafe_b64encode(json.dumps({"sub": word(number)}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.c2lnbmF0dXJlT2Y{number:03}"


def aws(number: int) -> str:
    return f"AKIA{number:03}IOSFODNN7EXAMP"[:20].ljust(20, "Q")


def bearer(number: int) -> str:
    return f"opaque.T0ken~{number:03}_{number * 7919 % 1000:03}=="


def email(number: int) -> str:
    return f"jane.{number:03}@mail{number:03}.example"


# ---- places


def request_field(name: str, text: str = "{}") -> Make:
    return lambda secret: {"request_fields": f"Host: h\r\n{name}: {text.replace('{}', secret)}\r\n".encode()}


def response_field(name: str, text: str = "{}") -> Make:
    return lambda secret: {"response_fields": f"{name}: {text.replace('{}', secret)}\r\n".encode()}


def target(text: str) -> Make:
    return lambda secret: {"target": text.replace("{}", secret).encode()}


def body(
    content_type: str, text: str, *, coding: str = "", code: Callable[[bytes], bytes] = bytes, cut: int = 0
) -> Make:
    """A request body; ``cut`` says how many bytes are missing at its end."""

    def make(secret: str) -> dict[str, Any]:
        content = code(text.replace("{}", secret).encode())
        fields = f"Content-Type: {content_type}\r\n" + (f"Content-Encoding: {coding}\r\n" if coding else "")
        return {
            "request_fields": fields.encode(),
            "request_body": content[: len(content) - cut],
            "request_body_size": len(content),
        }

    return make


def response_body(content_type: str, text: str, **values: Any) -> Make:
    def make(secret: str) -> dict[str, Any]:
        made = body(content_type, text, **values)(secret)
        return {name.replace("request", "response"): value for name, value in made.items()}

    return make


def multipart(name: str) -> str:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{{}}\r\n--B--\r\n'


def escaped(content: bytes) -> bytes:
    """Each letter and digit as JSON may escape it."""
    return b"".join(b"\\u%04x" % byte if chr(byte).isalnum() else bytes((byte,)) for byte in content)


def json_escaped(secret: str) -> dict[str, Any]:
    return body(JSON, '{"name":"{}"}')(escaped(secret.encode()).decode())


MULTIPART = "multipart/form-data; boundary=B"


def message(text: str, *, missing: int = 0, binary: bool = False, from_client: bool = True) -> Make:
    """A WebSocket message; ``missing`` says how many bytes at its end were not kept."""

    def make(secret: str) -> dict[str, Any]:
        content = text.replace("{}", secret).encode()
        kept = content[: len(content) - missing]
        # Its size on the wire is that of a compressed one, smaller than what was kept of it.
        recorded = WebSocketMessage(from_client, 1, binary, 3, kept, complete=not missing)
        return {"websocket": WebSocketSummary(1, 3, 0, 0, 1000, (recorded,))}

    return make


PLACES: list[tuple[str, Callable[[int], str], Make]] = [
    # header fields, and what stands in them
    ("named field", word, request_field("X-Api-Key")),
    ("field named by a star", word, request_field("x-secret-thing")),
    ("field named by a pattern", word, request_field("X-Card-Pin")),
    ("named field of a response", word, response_field("x-api-key")),
    ("hashed field", word, request_field("x-hashed")),
    ("dropped field", word, request_field("x-dropped")),
    ("repeated field", word, request_field("x-api-key", "a\r\nX-Api-Key: {}")),
    ("authorization", word, request_field("Authorization", "Basic {}")),
    ("authorization, bearer", bearer, request_field("authorization", "Bearer {}")),
    ("bearer token elsewhere", bearer, request_field("x-forwarded-authorization", "Bearer {}")),
    ("jwt in a field", jwt, request_field("x-identity")),
    ("card in a field", card, request_field("x-note", "card {}")),
    ("e-mail in a field", email, request_field("from", "Jane <{}>")),
    ("e-mail, encoded", lambda n: quote(email(n), safe=""), request_field("x-user")),
    ("aws key in a field", aws, response_field("x-credential", "{}/2024/s3")),
    ("user agent", jwt, request_field("User-Agent", "app/1 {}")),
    ("referer", word, request_field("Referer", "https://shop.example/?a=1&token={}")),
    ("referer, password", word, request_field("Referer", "https://jane:{}@shop.example/")),
    ("location", word, response_field("Location", "/next?token={}&b=2")),
    ("location, fragment", word, response_field("Location", "https://app/#token={}")),
    ("location, within another URL", word, response_field("Location", "/in?next=%2Fx%3Ftoken%3D{}")),
    ("session header", card, request_field("x-sp-session-id")),
    ("session", card, lambda secret: {"session_id": secret.encode()}),
    # cookies
    ("cookie", word, request_field("Cookie", "a=1; session={}; b=2")),
    ("cookie, encoded name", word, request_field("Cookie", "SessionId={}")),
    ("set-cookie", word, response_field("Set-Cookie", "session-x={}; Path=/; HttpOnly")),
    ("jwt in a cookie", jwt, request_field("Cookie", "a={}")),
    # targets and authorities
    ("query", word, target("/a?token={}&b=1")),
    ("query, star", word, target("/a?my_key={}")),
    ("query, hashed", word, target("/a?hashed={}")),
    ("query, encoded name", word, target("/a?%74oken={}")),
    ("query, URL within", word, target("/login?next=%2Fb%3Ftoken%3D{}")),
    ("matrix parameter", word, target("/a;token={}/b")),
    ("card in a path", card, target("/cards/{}/limits")),
    ("e-mail in a path, encoded", lambda n: quote(email(n), safe=""), target("/users/{}")),
    ("card in a query, with spaces", lambda n: "+".join(card(n)[i : i + 4] for i in range(0, 16, 4)), target("/a?c={}")),
    ("card, encoded twice", lambda n: "%25" + f"{ord(card(n)[0]):02x}" + card(n)[1:], target("/a?c={}")),
    ("password in a target", word, target("http://u:{}@h/")),
    ("password in an authority", word, lambda secret: {"authority": f"u:{secret}@h:80".encode()}),
    # trailers
    ("named trailer", word, lambda secret: {"request_trailers": f"x-api-key: {secret}\r\n".encode()}),
    ("jwt in a trailer", jwt, lambda secret: {"response_trailers": f"grpc-message: no {secret}\r\n".encode()}),
    # forms
    ("form", word, body(FORM, "a=1&password={}&b=2")),
    ("form, encoded name", word, body(FORM, "pass%77ord={}")),
    ("form, star", word, body(FORM, "pin_code={}")),
    ("form, dropped", word, body(FORM, "a=1&dropped={}")),
    ("card in a form", lambda n: "%20".join(card(n)[i : i + 4] for i in range(0, 16, 4)), body(FORM, "c={}&d=1")),
    ("multipart", word, body(MULTIPART, multipart("password"))),
    ("multipart, cut", word, body(MULTIPART, multipart("password"), cut=12)),
    ("card in multipart", card, body(MULTIPART, multipart("other"))),
    # JSON
    ("json", word, body(JSON, '{"password":"{}"}')),
    ("json, deep", word, body(JSON, '{"x":[{"y":{"z":[1,{"password":"{}"}]}}]}')),
    ("json, array", word, body(JSON, '{"cards":[{"pan":"1"},{"pan":"{}","n":1.10}]}')),
    ("json, index", word, body(JSON, '{"a":{"b":[0,{"c":"{}"}]}}')),
    ("json, odd key", word, body(JSON, '{"odd key":["{}"]}')),
    ("json, object", word, body(JSON, '{"whole":{"x":{"y":"{}"}}}')),
    ("json, hashed", word, body(JSON, '{"hashed":"{}"}')),
    ("json, dropped", word, body(JSON, '{"dropped":"{}"}')),
    ("json, escaped key", word, body(JSON, '{"passw\\u006frd":"{}"}')),
    ("json, twice", word, body(JSON, '{"password":"{}","password":"x"}')),
    ("json, broken", word, body(JSON, '{"password":"{}",}')),
    ("json, cut", word, body(JSON, '{"password":"{}","more":"text"}', cut=8)),
    ("json, within the secret cut", card, body(JSON, '{"n":"{}"}', cut=6)),
    ("json of another type", word, body("application/vnd.api+json", '{"password":"{}"}')),
    ("json that says it is text", word, body(TEXT, ' {"password":"{}"}')),
    ("json without a type", word, body("", '{"password":"{}"}')),
    ("json lines", word, body("application/x-ndjson", '{"a":1}\n{"password":"{}"}\n')),
    ("json, utf-16", word, body(f"{JSON}; charset=utf-16", '{"password":"{}"}', code=lambda c: c.decode().encode("utf-16"))),
    ("json, utf-16 unsaid", word, body(JSON, '{"password":"{}"}', code=lambda c: c.decode().encode("utf-16-le"))),
    ("number in json", card, body(JSON, '{"n":{},"m":[1.50]}')),
    ("key in json", email, body(JSON, '{"{}":1}')),
    ("escaped in json", card, json_escaped),
    ("aws secret in json", lambda n: (word(n) * 3)[:40], body(JSON, '{"SecretAccessKey":"{}"}')),
    ("json in a response", word, response_body(JSON, '{"user":{"password":"{}"}}')),
    # text, coded bodies, binary ones
    ("text by a pattern", word, body(TEXT, "his SSN: {} is")),
    ("card in text", lambda n: "-".join(card(n)[i : i + 4] for i in range(0, 16, 4)), body(TEXT, "pay {} now")),
    ("jwt in html", jwt, response_body("text/html", "<a href='/?t={}'>")),
    ("token in xml", bearer, body("application/xml", "<a>Bearer {}</a>")),
    ("jwt, cut", jwt, body(TEXT, "token {}", cut=10)),
    ("gzip", word, body(JSON, '{"password":"{}"}', coding="gzip", code=gzip.compress)),
    ("gzip, cut", word, body(JSON, '{"password":"{}","b":"xyz"}', coding="gzip", code=gzip.compress, cut=12)),
    ("deflate", jwt, response_body(TEXT, "token {}", coding="deflate", code=zlib.compress)),
    ("brotli", word, response_body(JSON, '{"password":"{}"}', coding="br", code=brotli.compress)),
    ("zstd", card, body(TEXT, "card {}", coding="zstd", code=zstandard.ZstdCompressor().compress)),
    ("two codings", word, body(JSON, '{"password":"{}"}', coding="gzip, br", code=lambda c: brotli.compress(gzip.compress(c)))),
    ("coding that nobody knows", word, body(JSON, '{"password":"{}"}', coding="rot0")),
    ("coding that is not true", word, body(JSON, '{"password":"{}"}', coding="gzip")),
    ("grpc message", jwt, body("application/grpc", "\0\0\0\0\x7f\n{}\x12\x01x")),
    ("websocket, json", word, message('{"password":"{}"}')),
    ("websocket, json with blanks, deep", word, message(' \n[{"a":{"password":"{}"}}]', from_client=False)),
    ("websocket, json, dropped", word, message('{"dropped":"{}"}')),
    ("websocket, json, cut", word, message('{"password":"{}","more":"text"}', missing=8)),
    ("websocket, card in json", card, message('{"n":{}}')),
    ("websocket, text by a pattern", word, message("his SSN: {} is")),
    ("websocket, detector", jwt, message("token {} please")),
    ("websocket, detector, cut", jwt, message("token {}", missing=10)),
    ("websocket, binary", aws, message("\0\1{}", binary=True)),
    ("image", aws, response_body("image/png", "\x89PNG\0\0{}")),
]  # fmt: skip


def exchanges() -> list[Exchange]:
    return [make_exchange(number, **make(secret(number))) for number, (_, secret, make) in enumerate(PLACES, start=1)]


def traces(secret: str) -> set[str]:
    """What would give a secret away: all of it, or a long part, in any form."""
    plain = unquote_plus(unquote_plus(secret))
    digits = plain.replace(" ", "").replace("-", "")
    parts = {plain, digits} if digits.isdigit() else {plain, *plain.split(".")[1:]}
    return {part[:12] for part in parts if len(part) >= 8} or {plain}


def readings(content: bytes) -> Iterator[str]:
    """A text in all forms in which a secret may stand in it."""
    text = content.decode("latin-1")
    yield text
    yield unquote_plus(unquote_plus(text))
    yield text.replace(" ", "").replace("-", "").replace("+", "").replace("%20", "")
    yield text.replace("\0", "")
    yield re.sub(r"\\u00([0-9a-f]{2})", lambda escape: chr(int(escape[1], 16)), text)


def values(message: Any) -> Iterator[str]:
    """All texts in a decoded message."""
    if isinstance(message, dict):
        for key, value in message.items():
            yield str(key)
            yield from values(value)
    elif isinstance(message, list):
        for value in message:
            yield from values(value)
    else:
        yield str(message)


def undone(text: str) -> Iterator[bytes]:
    """A value as it is, out of base64, and decompressed."""
    yield text.encode()
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return
    yield content
    for decompress in (gzip.decompress, zlib.decompress, brotli.decompress):
        try:
            yield decompress(content)
        except (OSError, zlib.error, EOFError, brotli.error):
            continue


@pytest.fixture(scope="module")
def leaks() -> Callable[[list[bytes]], list[str]]:
    looked_for = [(name, traces(secret(number))) for number, (name, secret, _) in enumerate(PLACES, start=1)]

    def look(contents: list[bytes]) -> list[str]:
        texts = "\n".join(reading for content in contents for reading in readings(content))
        return [name for name, parts in looked_for if any(part in texts for part in parts)]

    return look


def test_there_are_more_than_fifty_places_with_a_secret_each():
    assert len(PLACES) > 50
    assert len({name for name, _, _ in PLACES}) == len(PLACES)
    secrets = [secret(number) for number, (_, secret, _) in enumerate(PLACES, start=1)]
    assert len(set(secrets)) == len(secrets)


def files_in(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


async def test_without_redaction_they_are_all_found(leaks):
    """Guards the other test against looking at nothing: what is not found here could not be found there."""
    off = dict.fromkeys(["payment_card", "bearer_token", "jwt", "aws_key", "email"], "off")
    redaction = {"detectors": off, "send_cookies": True}
    async with (
        open_backend() as backend,
        open_rig(backend.url, redaction=redaction, upload={"compression": "none"}) as rig,
    ):
        for exchange in exchanges():
            await rig.send(Records([exchange]))
        await rig.finish()
    contents = [
        content for request in backend.requests for text in values(MessageToDict(request)) for content in undone(text)
    ]
    missing = {name for name, _, _ in PLACES} - set(leaks(contents))
    # These never are, whatever the settings.
    assert missing == {
        "authorization",
        "password in a target",
        "password in an authority",
        "referer, password",
    }


async def test_planted_secrets_appear_nowhere(leaks, tmp_path: Path):
    spool = {"mode": "always", "directory": str(tmp_path)}
    retry = {"initial_interval": "200ms", "max_interval": "200ms", "max_elapsed_time": "0s"}
    with capture_logs() as logs:
        async with (
            open_backend(*[answer(503)] * 4, answer(400)) as backend,
            open_rig(
                backend.url,
                redaction=REDACTION,
                upload={"compression": "none", "concurrency": 1},
                spool=spool,
                retry=retry,
                batch={"max_records": 20, "flush_timeout": "50ms"},
            ) as rig,
        ):
            await rig.send(Records(exchanges()))
            await backend.wait_received(2)
            on_disk = files_in(tmp_path)
            stats = await rig.settled(len(PLACES))
            supervisor = SupervisorStats(1, 1, 0, failing_open=False, failopen_connections=0, failopen_connections_total=0, failopen_refused_total=0, draining=False, exporter_running=True)  # fmt: skip
            metrics = generate_latest(build_registry(lambda: (supervisor, stats)))
            status = json.dumps(status_document(supervisor, stats)).encode()
            await rig.finish()
    assert any(b"http.request" in content for content in on_disk)
    assert stats.shed == {}
    assert len({span.span_id for span in backend.spans}) == len(PLACES)
    sent = [received.body for received in backend.received]
    shown = [
        content for request in backend.requests for text in values(MessageToDict(request)) for content in undone(text)
    ]
    assert leaks(sent) == []
    assert leaks(shown) == []
    assert leaks(on_disk) == []
    assert leaks([metrics, status, repr(logs).encode()]) == []
    assert b"[REDACTED]" in b"".join(sent)
    assert b"hash:" in b"".join(sent)


class FailingEngine:
    """RE2 that fails at some texts, as nobody expects it to."""

    searcher = staticmethod(regex.searcher)
    finder = staticmethod(regex.finder)
    literal = staticmethod(regex.literal)

    def scanner(self, patterns):
        scan = regex.scanner(patterns)

        def failing(text: bytes):
            if b"Pl4nted" in text:
                raise MemoryError(f"no memory for {text!r}")
            return scan(text)

        return failing


@pytest.mark.parametrize("place", ["session", "named field", "query", "json", "named trailer"])
def test_a_failing_redaction_loses_the_record_alone_and_counts_it(place):
    redaction = Redactor(RedactionConfig(detectors={"jwt": "replace"}), FailingEngine())
    encoder = Encoder(SpanEncoder(decode_body, redaction=redaction).encode_span, [Form({}, "none")])
    make = next(make for name, _, make in PLACES if name == place)
    good = make_exchange(1)
    encoded = encoder.encode([good, structs.replace(good, **make(word(1))), good])
    assert dict(encoded.lost) == {"redaction_failed": 1}
    assert sum(payload.records for payload in encoded.payloads) == 2
    assert b"Pl4nted" not in b"".join(payload.body for payload in encoded.payloads)
