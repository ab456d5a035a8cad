"""Protocols that are no HTTP, whoever speaks first."""

from tests.conformance.conversation import HEAD_END, Check, close, half_close, pause, rest, send, size, until
from tests.conformance.http1_checks import OK, head

ALL_BYTES = bytes(range(256)) * 4
POSTGRES_SSL = bytes.fromhex("0000000804d2162f")
MQTT_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test"
KAFKA_VERSIONS = b"\x00\x00\x00\x12\x00\x12\x00\x00\x00\x00\x00\x01\x00\x08consumer"
MYSQL_GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00" + b"\x08\x00\x00\x00" + b"abcdefgh" + bytes(45)
CLIENT_HELLO = bytes.fromhex("16030100be010000ba0303") + bytes(range(32)) + b"\x00\x00\x02\x13\x01\x01\x00" + bytes(147)


def echoed(name: str, said: bytes, answer: bytes, *, late: float = 0.0) -> Check:
    """The client says something that is no HTTP, and the server answers without delay."""
    return Check(name, [send(said), until(answer), close], [until(said), send(answer), rest, close], (), late=late)


OTHER_PROTOCOLS = [
    Check(
        "smtp",
        [until(b"\r\n"), send(b"EHLO me\r\n"), until(b"250 ok\r\n"), send(b"QUIT\r\n"), rest, close],
        [
            send(b"220 mail ESMTP\r\n"),
            until(b"EHLO me\r\n"),
            send(b"250-mail\r\n250 ok\r\n"),
            until(b"QUIT\r\n"),
            send(b"221 bye\r\n"),
            close,
        ],
        (),
    ),
    Check(
        "ssh",
        [until(b"\r\n"), send(b"SSH-2.0-client\r\n"), until(b"\x0b\x14"), close],
        [send(b"SSH-2.0-server\r\n"), until(b"client\r\n"), send(b"\x00\x00\x04\x0c\x0b\x14" + ALL_BYTES), rest, close],
        (),
    ),
    Check(
        "ssh-client-first",
        [send(b"SSH-2.0-client\r\n"), until(b"\r\n"), close],
        [until(b"client\r\n"), send(b"SSH-2.0-server\r\n"), rest, close],
        (),
    ),
    Check(
        "mysql",
        [size(len(MYSQL_GREETING)), send(b"\x05\x00\x00\x01login"), until(b"ok"), close],
        [send(MYSQL_GREETING), until(b"login"), send(b"\x02\x00\x00\x02ok"), rest, close],
        (),
    ),
    Check(
        "ftp-late-greeting",
        [until(b"\r\n"), send(b"USER me\r\n"), until(b"331"), close],
        [pause(0.5), send(b"220 ftp\r\n"), until(b"\r\n"), send(b"331\r\n"), rest, close],
        (),
    ),
    echoed("redis", b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    echoed("redis-inline", b"PING\r\n", b"+PONG\r\n"),
    echoed("redis-inline-get", b"GET key\r\n", b"$-1\r\n"),
    echoed("redis-inline-without-cr", b"GET key\n", b"$-1\r\n"),
    echoed("memcached-get", b"get some-key\r\n", b"END\r\n"),
    echoed("memcached-set", b"set k 0 0 5\r\nhello\r\n", b"STORED\r\n"),
    echoed("memcached-version", b"version\r\n", b"VERSION 1.6\r\n"),
    echoed("postgresql-ssl-request", POSTGRES_SSL, b"N"),
    echoed(
        "postgresql-startup",
        b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00me\x00db\x00x\x00\x00",
        b"R\x00\x00\x00\x08\x00\x00\x00\x00",
    ),
    echoed("mqtt", MQTT_CONNECT, b"\x20\x02\x00\x00"),
    echoed("kafka", KAFKA_VERSIONS, b"\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00"),
    echoed("amqp", b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00start"),
    echoed("mongodb", b"\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00", b"\x24\x00\x00\x00"),
    echoed("cassandra", b"\x04\x00\x00\x00\x05\x00\x00\x00\x00", b"\x84\x00\x00\x00\x06"),
    echoed("zookeeper", b"ruok", b"imok"),
    echoed(
        "dns-over-tcp",
        b"\x00\x1d\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x07example\x03com\x00\x00\x01\x00\x01",
        b"\x00\x0c\x12\x34",
    ),
    echoed("rtsp", b"OPTIONS rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 200 OK\r\n\r\n"),
    echoed("sip", b"REGISTER sip:h SIP/2.0\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"),
    echoed("stomp", b"CONNECT\naccept-version:1.2\n\n\x00", b"CONNECTED\n\n\x00"),
    echoed("nats", b"CONNECT {}\r\nPING\r\n", b"PONG\r\n"),
    echoed("irc", b"NICK me\r\nUSER me 0 * :me\r\n", b":srv 001 me\r\n"),
    echoed("pop3-like", b"USER me\r\n", b"+OK\r\n"),
    echoed("gopher", b"\r\n", b"iHello\r\n"),
    echoed("finger", b"someone\r\n", b"Login: someone\r\n"),
    echoed("telnet-negotiation", b"\xff\xfb\x18\xff\xfb\x1f", b"\xff\xfd\x18"),
    echoed(
        "proxy-protocol",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 5 80\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ),
    echoed("proxy-protocol-2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12), b"ok"),
    echoed("socks-5", b"\x05\x01\x00", b"\x05\x00"),
    echoed("thrift", b"\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x01\x00", b"\x80\x01\x00\x02"),
    echoed("fix", b"8=FIX.4.4\x019=5\x0135=0\x0110=161\x01", b"8=FIX.4.4\x01"),
    echoed("json-line", b'{"op":"ping"}\n', b'{"op":"pong"}\n'),
    echoed("all-bytes", ALL_BYTES, ALL_BYTES[::-1]),
    echoed("nul", b"\x00", b"\x01"),
    echoed("one-blank", b" ", b"ok"),
    echoed("one-line-feed", b"\n", b"ok"),
    echoed("tls", CLIENT_HELLO, b"\x16\x03\x03\x00\x02\x02\x00"),
    echoed("tls-alert", b"\x15\x03\x01\x00\x02\x02\x28", b"bye"),
    # what may still be a request, in the first moment
    echoed("one-letter", b"G", b"got it", late=0.2),
    echoed("word", b"hello", b"world"),
    echoed("word-like-a-method", b"PING", b"PONG"),
    echoed("words", b"hello there", b"general"),
    echoed("token-with-line-end", b"hello\n", b"world\n"),
    echoed("one-carriage-return", b"\r", b"ok", late=0.2),
    echoed("number", b"12345", b"54321"),
    Check(
        "words-back-and-forth",
        [*(step for n in range(10) for step in (send(b"q%d" % n), until(b"a%d" % n))), close],
        [*(step for n in range(10) for step in (until(b"q%d" % n), send(b"a%d" % n))), rest, close],
        (),
    ),
    Check(
        "ping-pong",
        [*(step for n in range(100) for step in (send(b"\x00%03d" % n), size(4 * (n + 1)))), close],
        [*(step for n in range(100) for step in (size(4 * (n + 1)), send(b"\x01%03d" % n))), rest, close],
        (),
        late=0.3,
    ),
    Check(
        "half-closed-bytes",
        [send(b"\xff" + ALL_BYTES * 200), half_close, rest, close],
        [rest, send(ALL_BYTES[::-1] * 200), close],
        (),
    ),
    Check("server-sends-and-closes", [rest, close], [send(b"motd: " + ALL_BYTES), close], ()),
    Check(
        "server-sends-half-closes-and-reads",
        [rest, send(b"thanks"), close],
        [send(b"motd\n"), half_close, rest, close],
        (),
    ),
    Check(
        "both-send-at-once",
        [send(b"\x00" + b"c" * 500000), size(500000), close],
        [send(b"s" * 500000), size(500001), rest, close],
        (),
        marks=False,
    ),
    Check(
        "tls-both-ways",
        [send(CLIENT_HELLO), until(b"fin"), half_close, rest, close],
        [until(CLIENT_HELLO[-20:]), send(b"\x16\x03\x03fin"), rest, send(b"late"), close],
        (),
    ),
    Check(
        "server-speaks-and-a-request-comes",
        [until(b"hi\n"), send(head()), until(b"done"), close],
        [send(b"hi\n"), until(HEAD_END), send(OK), rest, close],
        (),
        injected=0,
    ),
]
