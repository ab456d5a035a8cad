"""The commands are run, by a real shell with a real curl and a real HTTPie, against a server that tells what it got."""

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sp_proxy.backend.detail import exchange_view
from sp_proxy.backend.export.commands import curl, httpie
from tests.backend.export.records import exchange
from tests.requirements import unavailable

COMMANDS = {"curl": curl, "http": httpie}


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.got.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def echo() -> Iterator[tuple[list[Any], str]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.got = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.got, f"127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def run(program, command, directory):
    """Run it where there are files that a careless command would read."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if shutil.which(program, path=path) is None:
        unavailable(f"{program} is not installed")
    (directory / "secret").write_text("secret")
    (directory / "replay.sh").write_text(command)
    done = subprocess.run(
        ["sh", "replay.sh"],
        cwd=directory,
        env={"PATH": path, "HOME": str(directory), "NO_PROXY": "*"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (command, done.stderr)


CASES: dict[str, dict[str, Any]] = {
    "get": {"path": "/a/b?x=1&y=[1]{2}"},
    "json": {
        "method": "POST",
        "request_body": json.dumps({"a": 'it\'s "quoted" $HOME `id` \\'}),
        "content_type": "application/json",
    },
    "file": {"method": "PUT", "request_body": "@secret", "content_type": "text/plain"},
    "lines": {"method": "POST", "request_body": "one\r\ntwo\n!#&;\n", "content_type": "text/plain"},
    "binary": {
        "method": "POST",
        "request_body": base64.b64encode(b"\x00\xff\xfe").decode(),
        "content_type": "image/png",
    },
    "fields": {
        "headers": {
            "x-a": "@secret",
            "x-b": "=1",
            "x-c": ":=2",
            "x-d": "it's; $(id) `id`",
            "x-e": ";3",
            "x-empty": "",
        }
    },
    "method": {"method": "PURGE"},
    "options": {"headers": {"-o": "taken", "--output": "taken", "-f": "secret"}},
    "large": {"method": "POST", "request_body": "x" * 200_000, "content_type": "text/plain"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", COMMANDS)
def test_the_same_request_is_made_again(program, case, tmp_path):
    values = dict(CASES[case])
    headers = {"accept": "*/*", **values.pop("headers", {})}
    if "content_type" in values:
        headers["content-type"] = values.pop("content_type")
    values = {"method": "GET", "path": "/x", **values}
    with echo() as (got, host):
        record = exchange(headers, host=host, **values)
        assert record.exchange is not None
        command = COMMANDS[program](record.exchange, exchange_view(record, record.exchange))
        run(program, command, tmp_path)
    ((method, path, fields, body),) = got
    if program == "http":  # it encodes what curl sends as it is
        path = unquote(path)
    assert (method, path) == (values["method"], values["path"])
    sent = values.get("request_body", "").encode()
    assert body == (base64.b64decode(sent) if case == "binary" else sent)
    lower = {name.lower(): value for name, value in fields.items()}
    assert {name: lower.get(name) for name in headers} == headers


@pytest.mark.parametrize("program", COMMANDS)
def test_nothing_captured_becomes_code(program):
    """The only words of a command are ours, and what was captured is one word each."""
    evil = "'; touch owned; '\n`touch owned`$(touch owned)"
    record = exchange({"x-evil": evil, "x\ny": "1", "@file": "1"}, host="h'; touch owned '", path="/")
    assert record.exchange is not None
    command = COMMANDS[program](record.exchange, exchange_view(record, record.exchange))
    assert command == "# this request has a method or a target that no client sends\n"
    record = exchange({"x-evil": evil, "x\ny": "1", "@file": "1", "x-ok": "'; touch owned '"}, host="h", path="/'$(id)")
    assert record.exchange is not None
    command = COMMANDS[program](record.exchange, exchange_view(record, record.exchange))
    *comments, line = command.splitlines()
    assert comments == ["# a header field is left out: it has characters that cannot be sent so"] * 3
    arguments = shlex.split(line)
    assert not any("@file" in word or "\n" in word for word in arguments)
    assert any("touch owned" in word for word in arguments)


@pytest.mark.parametrize("method", ["--download", "M-SEARCH"])
def test_a_method_that_httpie_would_take_for_something_else(method):
    record = exchange({}, method=method)
    assert record.exchange is not None
    command = httpie(record.exchange, exchange_view(record, record.exchange))
    assert command == "# this request has a method that HTTPie does not send\n"
    assert f"--request {method} " in curl(record.exchange, exchange_view(record, record.exchange))


def test_what_httpie_cannot_say_is_left_out():
    record = exchange({"x-a": "a\\@b"})
    assert record.exchange is not None
    command = httpie(record.exchange, exchange_view(record, record.exchange))
    assert command.startswith("# a header field is left out: it has characters that cannot be sent so\n")
    assert "x-a" not in command


@pytest.mark.parametrize("program", COMMANDS)
def test_what_belongs_to_one_connection_or_trace_is_not_sent_again(program):
    headers = {"connection": "close", "content-length": "3", "traceparent": "00-x", "x-sp-num": "1", "x-own": "1"}
    record = exchange(
        headers,
        request_body="abc",
        more={"http.request.body.size": 9, "http.request.header.content-type": "text/plain"},
    )
    assert record.exchange is not None
    command = COMMANDS[program](record.exchange, exchange_view(record, record.exchange))
    assert "# of the body 3 of 9 bytes were captured" in command
    assert "x-own" in command
    assert not any(name in command for name in ("connection", "content-length", "traceparent", "x-sp-num"))
