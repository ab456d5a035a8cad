"""Answers of HTTP/1.x: every framing, status and interim response, and what looks like one."""

from tests.conformance.http1_checks import OK, answered, answered_to_the_end

ANSWERS = [
    answered("length", OK),
    answered("length-0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    answered("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n"),
    answered(
        "trailers",
        b"HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\ndone\r\n0\r\nA: b\r\n\r\n",
    ),
    answered("1.0-with-length", b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ndone"),
    answered(
        "1.0-kept-alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ndone", version=b"1.0"
    ),
    answered("no-reason", b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\ndone"),
    answered("no-reason-no-blank", b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\ndone"),
    answered("reason-in-latin-1", b"HTTP/1.1 200 D\xe9j\xe0 vu\tx\r\nContent-Length: 4\r\n\r\ndone"),
    answered("reason-of-8-KiB", b"HTTP/1.1 200 " + b"r" * 8192 + b"\r\nContent-Length: 4\r\n\r\ndone"),
    *(
        answered(f"status-{code}", b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\ndone" % code, code)
        for code in (
            201,
            202,
            203,
            205,
            206,
            207,
            226,
            300,
            301,
            302,
            303,
            307,
            308,
            400,
            401,
            403,
            404,
            405,
            407,
            408,
            409,
        )
    ),
    *(
        answered(f"status-{code}", b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\ndone" % code, code)
        for code in (
            410,
            411,
            412,
            413,
            414,
            416,
            417,
            418,
            421,
            422,
            426,
            428,
            429,
            431,
            451,
            499,
            500,
            501,
            502,
            503,
            504,
            511,
            599,
            600,
            799,
            999,
        )
    ),
    answered("204", b"HTTP/1.1 204 No Content\r\nX-Last: yes-it-is-the-end\r\n\r\n", 204),
    answered("204-with-length", b"HTTP/1.1 204 No Content\r\nContent-Length: 10\r\nX-Last: the-end\r\n\r\n", 204),
    answered("304-with-length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nX-Last: the-end\r\n\r\n", 304),
    answered("304-chunked", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nX-Last: the-end\r\n\r\n", 304),
    answered("head-with-length", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-Last: the-end\r\n\r\n", method=b"HEAD"),
    answered(
        "head-chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Last: the-end\r\n\r\n", method=b"HEAD"
    ),
    answered("head-without-length", b"HTTP/1.1 200 OK\r\nX-Last: this-is-the-end\r\n\r\n", method=b"HEAD"),
    answered(
        "fields",
        b"HTTP/1.1 200 OK\r\nzZ:  a \r\nSet-Cookie: a\r\nSet-Cookie: b\r\nE:\r\nX: \xff\r\nContent-Length: 4\r\n\r\ndone",
    ),
    answered(
        "1000-fields",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"Content-Length: 4\r\n\r\ndone",
    ),
    answered("100-KiB-head", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 102400 + b"\r\nContent-Length: 4\r\n\r\ndone"),
    answered(
        "1-MiB-head", b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20) + b"\r\nContent-Length: 4\r\n\r\ndone", read=False
    ),
    answered(
        "1-MiB-body",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + b"0123456789abcdef" * 65535 + b"end-of-the-body!",
    ),
    answered("100-continue-unasked", b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    answered("102-and-103", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK),
    answered("50-times-103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50 + OK),
    answered("199", b"HTTP/1.1 199 Own\r\nContent-Length: 9\r\n\r\n" + OK),
    answered(
        "304-behind-103", b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 304 Not Modified\r\nX-Last: the-end-of-it\r\n\r\n", 304
    ),
    answered("empty-body-of-chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Last: a\r\n\r\n0\r\n\r\n"),
    # not read
    answered("status-of-two-digits", b"HTTP/1.1 20 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("status-of-four-digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("status-000", b"HTTP/1.1 000 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("http-2-status-line", b"HTTP/2 200 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("http-1.2-status-line", b"HTTP/1.2 200 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("lower-case-status-line", b"http/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("icy", b"ICY 200 OK\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("no-http-at-all", b"what do you want? go away; done", read=False),
    answered("empty-line-before-status", b"\r\n" + OK, read=False),
    answered("lf-only", b"HTTP/1.1 200 OK\nContent-Length: 4\n\ndone", read=False),
    answered("obs-fold", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("space-before-colon", b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered("nul-in-value", b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 4\r\n\r\ndone", read=False),
    answered(
        "two-framings",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n",
        read=False,
    ),
    answered("two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ndone!", read=False),
    answered("length-list", b"HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\ndone", read=False),
    answered("length-minus", b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\ndone", read=False),
    answered(
        "identity", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 4\r\n\r\ndone", read=False
    ),
    answered(
        "broken-chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\ndone\r\n0\r\n\r\n", read=False
    ),
    answered(
        "chunks-too-short", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndone\r\n0\r\n\r\n", read=False
    ),
    answered(
        "unasked-101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nwhatever follows is done", read=False
    ),
    # until the end of the connection
    answered_to_the_end("until-close", b"HTTP/1.1 200 OK\r\n\r\nall of it"),
    answered_to_the_end("until-close-1.0", b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"),
    answered_to_the_end("until-close-empty", b"HTTP/1.1 200 OK\r\n\r\n"),
    answered_to_the_end("connection-close", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone"),
    answered_to_the_end("gzip-until-close", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nall of it", read=False),
    answered_to_the_end("http-0.9-answer", b"<html>all of it</html>", read=False),
    answered_to_the_end("204-with-body", b"HTTP/1.1 204 No\r\n\r\nbody", 204),
    answered_to_the_end("bytes-behind-the-answer", OK + b"and more"),
    answered_to_the_end("second-answer-unasked", OK + OK),
    answered_to_the_end(
        "truncated-length", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", error="upstream_aborted"
    ),
    answered_to_the_end(
        "truncated-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", error="upstream_aborted"
    ),
    answered_to_the_end(
        "no-last-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", error="upstream_aborted"
    ),
    answered_to_the_end(
        "no-end-of-trailers",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nA: b\r\n",
        error="upstream_aborted",
    ),
    answered_to_the_end("truncated-head", b"HTTP/1.1 200 OK\r\nContent-Le", 0, error="upstream_aborted"),
    answered_to_the_end(
        "head-without-last-lf", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r", 0, error="upstream_aborted"
    ),
    answered_to_the_end("no-answer", b"", 0, error="upstream_aborted"),
    answered_to_the_end("100-and-no-answer", b"HTTP/1.1 100 Continue\r\n\r\n", 0, error="upstream_aborted"),
]
