"""The servers behind and beside the proxies: nginx, which answers, over HTTP/1.1 and cleartext HTTP/2, and takes
OTLP uploads; and a reader of large request bodies, as nginx throws those away in pieces of 4 KiB.

Bodies are JSON with values of their own: compressing equal ones would cost an exporter nothing.
"""

import argparse
import json
import random
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, Running, free_port

VARIANTS = 256
"""Different answers and request bodies: 256 KiB of them, eight times what deflate looks back on."""
BODY_BYTES = 1024
LARGE_BYTES = 100 * 1024
HUGE_BYTES = 100 * 1024 * 1024
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Ports on loopback, and the files that clients need."""

    http1: int
    http2: int
    uploads: int
    """Reads a whole request body, then answers."""
    otlp: int
    """Accepts every OTLP request."""
    bodies: Path
    """Request bodies, one a line."""


def bodies(seed: int) -> list[str]:
    """JSON texts of exactly ``BODY_BYTES``."""
    draw = random.Random(seed)
    texts = []
    for _ in range(VARIANTS):
        items = [
            {"sku": f"SKU-{draw.randrange(10**6)}", "quantity": draw.randrange(9), "price": draw.randrange(9999) / 100}
            for _ in range(BODY_BYTES // 42)
        ]
        text = json.dumps({"items": items})[: BODY_BYTES - 12] + '"'
        texts.append(text + " " * (BODY_BYTES - len(text)))
    return texts


def nginx_config(directory: Path, http1: int, http2: int, otlp: int) -> str:
    """One worker. Nothing is logged, and a connection is kept as long as the client wants."""
    answers = "\n".join(f"    {number} '{text}';" for number, text in enumerate(bodies(1)))
    temporary = "\n".join(
        f"  {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
worker_processes 1;
worker_rlimit_nofile 65536;
pid {directory}/nginx.pid;
error_log stderr crit;
daemon off;
events {{ worker_connections 32768; multi_accept on; }}
http {{
{temporary}
  access_log off;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  default_type application/json;
  map_hash_bucket_size 128;
  map $arg_n $answer {{
{answers}
  }}
  server {{
    listen 127.0.0.1:{http1} backlog=4096;
    listen 127.0.0.1:{http2} http2 backlog=4096;
    root {directory};
    location /small {{ return 200 $answer; }}
    location /large {{ }}
    location /huge {{ }}
  }}
  server {{
    listen 127.0.0.1:{otlp} backlog=4096;
    location / {{ return 200 ""; }}
  }}
}}
"""


def start_nginx(directory: Path, http1: int, http2: int, otlp: int) -> Running:
    """Ready when it accepts. Its files are in ``directory``, which its own user must be able to read."""
    # As another user it could read the temporary directory only if that were open to all.
    user = "user root;\n" if Path("/proc/self").stat().st_uid == 0 else ""
    draw = random.Random(2)
    (directory / "large").write_text(json.dumps([f"{draw.getrandbits(32):08x}" for _ in range(9000)])[:LARGE_BYTES])
    with (directory / "huge").open("wb") as file:
        for _ in range(HUGE_BYTES // _READ_BYTES):
            file.write(draw.randbytes(_READ_BYTES))
    config = directory / "nginx.conf"
    config.write_text(user + nginx_config(directory, http1, http2, otlp))
    nginx = Running("nginx", ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)], directory)
    try:
        nginx.wait_for(lambda: accepts(http1) and accepts(otlp))
    except BenchmarkError:
        nginx.stop()
        raise
    return nginx


def accepts(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answer_uploads(sock: socket.socket) -> None:
    """HTTP/1.1 as far as our own clients and the proxies use it: content-length or chunked bodies, keep-alive."""
    buffer = bytearray(_READ_BYTES)
    with sock, memoryview(buffer) as view:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = sock.recv(65536)
                if not piece:
                    return
                head += piece
            head, _, rest = head.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
            if b"content-length" in fields:
                left = int(fields[b"content-length"]) - len(rest)
                while left > 0:
                    count = sock.recv_into(view)
                    if not count:
                        return
                    left -= count
            elif b"transfer-encoding" in fields:
                # Its last bytes are enough to know the end: our clients send no trailers.
                tail = rest[-5:]
                while tail != b"0\r\n\r\n":
                    count = sock.recv_into(view)
                    if not count:
                        return
                    tail = (tail + bytes(view[max(0, count - 5) : count]))[-5:]
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")


def main() -> None:
    """The reader of large bodies: a thread a connection."""
    parser = argparse.ArgumentParser(description="Read request bodies, answer 200.")
    parser.add_argument("port", type=int)
    with socket.create_server(("127.0.0.1", parser.parse_args().port), backlog=1024) as server:
        while True:
            sock, _ = server.accept()
            threading.Thread(target=_answer_uploads, args=[sock], daemon=True).start()


def ports(directory: Path) -> Origin:
    """Free ones, and the request bodies written."""
    path = directory / "bodies"
    path.write_text("\n".join(bodies(3)))
    return Origin(free_port(), free_port(), free_port(), free_port(), path)


if __name__ == "__main__":
    main()
