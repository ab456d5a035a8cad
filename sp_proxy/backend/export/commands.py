"""An exchange as a command line that sends its request again: curl's and HTTPie's (pure).

The content comes from anyone, and the command is pasted into a shell: every word is quoted, nothing in it makes the
program read a file (``@`` in curl's and HTTPie's arguments), and what no argument can hold (a NUL, a field that is none)
is left out and said in a comment, or piped in as base64. Fields of one connection or one trace are not sent again.
"""

import base64
import re
import shlex
from collections.abc import Callable

from sp_proxy.backend.detail import ExchangeView
from sp_proxy.backend.export.har import body_bytes, url_of
from sp_proxy.backend.model import ExchangeSummary

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_HTTPIE_VALUE = re.compile(r"(?!.*\\[:;=@])[^\x00-\x08\x0a-\x1f\x7f]*")
"""HTTPie takes a backslash before its separators away, and has no way to say one."""
_HTTPIE_METHOD = re.compile(r"[A-Za-z]+")
"""It takes any other word in this place for the URL."""
_URL = re.compile(r"https?://[^\x00-\x20\x7f]+")
_OF_ONE_CONNECTION = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length")
)
_OF_ONE_TRACE = re.compile(r"traceparent|tracestate|x-sp-.*|x-service-name|x-current-service|x-debug-.*")


def curl(summary: ExchangeSummary, view: ExchangeView) -> str:
    """For curl."""

    def line(method: str, url: str, fields: list[tuple[str, str]], body: bytes | None) -> list[str]:
        words = ["curl", "--globoff", "--request", method]
        for name, value in fields:
            # A field without a value ends in a semicolon, or curl would leave it out (curl(1), --header).
            words += ["--header", f"{name}: {value}" if value else f"{name};"]
        if body is not None:
            text = _argument(body)
            words += ["--data-binary", "@-"] if text is None else ["--data-raw", text]
        return [*words, "--url", url]

    return _command(summary, view, line)


def httpie(summary: ExchangeSummary, view: ExchangeView) -> str:
    """For HTTPie."""

    def line(method: str, url: str, fields: list[tuple[str, str]], body: bytes | None) -> list[str]:
        text = None if body is None else _argument(body)
        words = ["http"]
        if body is None or text is not None:
            words.append("--ignore-stdin")
        if text is not None:
            words += ["--raw", text]
        # Behind the two dashes nothing is an option, whatever a method or a field is called.
        return [*words, "--", method, url, *(_item(name, value) for name, value in fields)]

    if not _HTTPIE_METHOD.fullmatch(summary.method):
        return "# this request has a method that HTTPie does not send\n"
    return _command(summary, view, line, _HTTPIE_VALUE)


def _item(name: str, value: str) -> str:
    """A header item: a backslash takes the meaning from a character that would make a separator of another kind."""
    if not value:
        return f"{name};"
    return f"{name}:\\{value}" if value[0] in "=@:;" else f"{name}:{value}"


_Line = Callable[[str, str, list[tuple[str, str]], bytes | None], list[str]]


def _command(summary: ExchangeSummary, view: ExchangeView, line: _Line, allowed: re.Pattern[str] = _VALUE) -> str:
    url, comments = url_of(summary, view), []
    if not _TOKEN.fullmatch(summary.method) or not _URL.fullmatch(url):
        return "# this request has a method or a target that no client sends\n"
    fields = []
    for name, value in view.request.headers:
        if name in _OF_ONE_CONNECTION or _OF_ONE_TRACE.fullmatch(name):
            continue
        if _TOKEN.fullmatch(name) and allowed.fullmatch(value):
            fields.append((name, value))
        else:
            comments.append("# a header field is left out: it has characters that cannot be sent so")
    body = None if view.request.body is None else body_bytes(view.request.body)
    if body is not None and len(body) < view.request.size:
        comments.append(f"# of the body {len(body)} of {view.request.size} bytes were captured")
    command = shlex.join(line(summary.method, url, fields, body))
    if body is not None and _argument(body) is None:
        command = f"printf %s {base64.b64encode(body).decode()} | base64 -d | {command}"
    return "\n".join([*comments, command, ""])


def _argument(body: bytes) -> str | None:
    """The body as an argument; None when it cannot be one (binary, or longer than the 128 KiB that Linux takes)."""
    if b"\x00" in body or len(body) >= 1 << 17:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
