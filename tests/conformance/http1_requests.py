"""Requests of HTTP/1.x: methods, targets, versions, fields, line ends, sizes.

What the daemon reads has records; what it does not read as everybody would passes untouched (``docs/protocol-decisions.md``).
"""

from tests.conformance.http1_checks import asked, head

METHODS = (
    *(b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"M-SEARCH", b"get", b"BREW"),
    *(b"X", b"!#$%&'*+-.^_`|~09", b"A" * 64, b"PRI", b"SUBSCRIBE", b"QUERY", b"MKCALENDAR", b"UNLOCK"),
)
TARGETS = (
    *(b"/t", b"/", b"//", b"/a//b/../c/./d", b"/a?b=c&d=%20%7e", b"/?", b"?", b"/a;b=c", b"/%00", b"/%zz", b"/a#frag"),
    *(
        b"http://h.example/t",
        b"http://other:81/t?u",
        b"https://h.example:443/",
        b"ws://h/x",
        b'/[]{}|\\^`"<>',
        b"/" + b"x" * 8000,
    ),
    *(b"/\xc3\xa9", b"/\xff\xfe", b"*", b"t", b"h:80", b"/a,b", b"urn:x:y", b"/?q=" + b"y" * 60000),
)


def _text(target: bytes) -> str:
    try:
        return target.decode()
    except UnicodeDecodeError:
        return target.decode("latin-1")


REQUESTS = [
    *(
        asked(f"method-{name.decode()[:20]}", head(name + b" /t HTTP/1.1"), (name.decode(), "/t", 200))
        for name in METHODS
    ),
    *(
        asked(
            f"target-{number}-{target[:16]!r}",
            head(b"GET " + target + b" HTTP/1.1"),
            ("GET", _text(target), 200),
        )
        for number, target in enumerate(TARGETS)
    ),
    asked("options-asterisk", head(b"OPTIONS * HTTP/1.1"), ("OPTIONS", "*", 200)),
    asked("http-1.0", head(b"GET /t HTTP/1.0")),
    asked("http-1.0-without-host", b"GET /t HTTP/1.0\r\n\r\n"),
    asked("http-1.0-keep-alive", head(b"GET /t HTTP/1.0", b"Connection: keep-alive")),
    asked("http-1.1-without-host", b"GET /t HTTP/1.1\r\n\r\n"),
    asked("http-1.1-with-empty-host", b"GET /t HTTP/1.1\r\nHost:\r\n\r\n"),
    asked("http-1.2", head(b"GET /t HTTP/1.2"), None),
    asked("http-2.0-line", head(b"GET /t HTTP/2.0"), None),
    asked("http-0.9", b"GET /t\r\n", None, after=b"\r\n"),
    asked("lower-case-version", head(b"GET /t http/1.1"), None),
    asked("version-1.01", head(b"GET /t HTTP/1.01"), None),
    asked("version-01.1", head(b"GET /t HTTP/01.1"), None),
    asked("version-without-number", head(b"GET /t HTTP/"), None),
    asked("version-of-icap", head(b"GET /t ICAP/1.0"), None),
    asked("two-spaces", head(b"GET  /t HTTP/1.1"), None),
    asked("tab-in-request-line", head(b"GET\t/t HTTP/1.1"), None),
    asked("blank-behind-version", head(b"GET /t HTTP/1.1 "), None),
    asked("blank-before-method", head(b" GET /t HTTP/1.1"), None),
    asked("blank-in-target", head(b"GET /t u HTTP/1.1"), None),
    asked("empty-target", head(b"GET  HTTP/1.1"), None),
    asked("nul-in-target", head(b"GET /t\x00u HTTP/1.1"), None),
    asked("del-in-target", head(b"GET /t\x7fu HTTP/1.1"), None),
    asked("method-of-65", head(b"A" * 65 + b" /t HTTP/1.1"), None),
    asked("method-with-brackets", head(b"G(T /t HTTP/1.1"), None),
    asked("cr-in-request-line", head(b"GET /t\rHTTP/1.1"), None),
    asked("lf-only", b"GET /t HTTP/1.1\nHost: h\n\n", None, after=b"\n\n"),
    asked("lf-behind-request-line", b"GET /t HTTP/1.1\nHost: h\r\n\r\n", None),
    asked("lf-behind-field", b"GET /t HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", None),
    asked("lf-at-the-end", b"GET /t HTTP/1.1\r\nHost: h\r\n\n", None, after=b"h\r\n\n"),
    asked("lf-cr-lf-at-the-end", b"GET /t HTTP/1.1\r\nHost: h\n\r\n", None, after=b"h\n\r\n"),
    asked("cr-cr-lf", b"GET /t HTTP/1.1\r\r\nHost: h\r\n\r\n", None),
    asked("empty-line-first", b"\r\n" + head(), count=2, after=b"\r\n"),
    asked("five-empty-lines-first", b"\r\n" * 5 + head(), after=b"example\r\n"),
    asked("lf-first", b"\n" + head(), None),
    asked("field-order-and-case", head(b"GET /t HTTP/1.1", b"zZ: 1", b"AA-bb: 2", b"a: 3", b"A: 4", b"zz: 5")),
    asked("empty-field", head(b"GET /t HTTP/1.1", b"X-Empty:", b"X-Blank:   ", b"X-Tab:\t")),
    asked("blanks-around-values", head(b"GET /t HTTP/1.1", b"A:no", b"B:   many   ", b"C:\t\ttabs \t", b"D: a  b")),
    asked(
        "repeated-fields", head(b"GET /t HTTP/1.1", *(b"X-Many: %d" % n for n in range(20)), b"Cookie: a", b"Cookie: b")
    ),
    asked("obs-text", head(b"GET /t HTTP/1.1", b"X: \xe9\xff\x80", "Y: käse".encode())),
    asked("control-characters-in-value", head(b"GET /t HTTP/1.1", b"X: a\x01b\x7fc\x1b")),
    asked("all-token-characters-in-a-name", head(b"GET /t HTTP/1.1", b"!#$%&'*+-.^_`|~09Az: x")),
    asked("underscores-in-names", head(b"GET /t HTTP/1.1", b"X_Under_Score: x", b"_: y")),
    asked("500-fields", head(b"GET /t HTTP/1.1", *(b"X-Field-%d: value-%d" % (n, n) for n in range(500)))),
    asked("2000-fields", head(b"GET /t HTTP/1.1", *(b"F%d: v" % n for n in range(2000)))),
    asked("64-KiB-head", head(b"GET /t HTTP/1.1", b"X-Big: " + b"b" * 65536)),
    asked("120-KiB-head", head(b"GET /t HTTP/1.1", *(b"X-%d: " % n + b"b" * 12000 for n in range(10)))),
    asked("1-MiB-head", head(b"GET /t HTTP/1.1", b"X-Big: " + b"b" * (1 << 20)), None),
    asked("field-without-colon", head(b"GET /t HTTP/1.1", b"nocolon"), None),
    asked("field-without-name", head(b"GET /t HTTP/1.1", b": x"), None),
    asked("space-before-colon", head(b"GET /t HTTP/1.1", b"X : y"), None),
    asked("space-in-name", head(b"GET /t HTTP/1.1", b"X y: z"), None),
    asked("nul-in-name", head(b"GET /t HTTP/1.1", b"X\x00: z"), None),
    asked("nul-in-value", head(b"GET /t HTTP/1.1", b"X: \x00"), None),
    asked("cr-in-value", head(b"GET /t HTTP/1.1", b"X: a\rb"), None),
    asked("cr-at-the-end-of-value", head(b"GET /t HTTP/1.1", b"X: a\r"), None),
    asked("obs-text-in-name", head(b"GET /t HTTP/1.1", b"X\xe9: z"), None),
    asked("obs-fold", head(b"GET /t HTTP/1.1", b"X: a\r\n b"), None),
    asked("obs-fold-with-tab", head(b"GET /t HTTP/1.1", b"X: a\r\n\tb"), None),
    asked("fold-in-first-field", b"GET /t HTTP/1.1\r\n Host: h\r\n\r\n", None),
    asked("two-hosts", head(b"GET /t HTTP/1.1", b"Host: other"), None),
    asked("two-equal-hosts", head(b"GET /t HTTP/1.1", b"Host: h.example"), None),
    asked("host-with-path", b"GET /t HTTP/1.1\r\nHost: a/b?c\r\n\r\n"),
    asked("host-with-user", b"GET /t HTTP/1.1\r\nHost: u:p@h:80\r\n\r\n"),
    asked("own-traceparent", head(b"GET /t HTTP/1.1", b"X-A: 1", b"Baggage: a=b")),
    asked(
        "connection-names-fields", head(b"GET /t HTTP/1.1", b"Connection: close, X-Hop", b"X-Hop: 1", b"Keep-Alive: 5")
    ),
    asked(
        "proxy-fields",
        head(b"GET /t HTTP/1.1", b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Basic x", b"Via: 1.1 me"),
    ),
    asked("te-trailers", head(b"GET /t HTTP/1.1", b"TE: trailers, deflate;q=0.5", b"Connection: TE")),
    asked("max-forwards", head(b"TRACE /t HTTP/1.1", b"Max-Forwards: 0"), ("TRACE", "/t", 200)),
    asked(
        "range-and-conditions", head(b"GET /t HTTP/1.1", b"Range: bytes=0-3", b'If-None-Match: "x"', b'If-Range: "x"')
    ),
]
