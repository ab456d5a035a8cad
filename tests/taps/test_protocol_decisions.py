"""``docs/protocol-decisions.md`` names every reason for which the HTTP/1.x tap gives up on a connection."""

import inspect
import re
from pathlib import Path

import pytest

from sp_proxy.taps import hpack, http1_framing, http1_heads, http1_requests, http1_responses, http1_state, http2
from sp_proxy.taps.http1_state import MAX_OPEN, MAX_OPEN_BYTES
from tests.taps.rig import Wire

PAGE = (Path(__file__).parents[2] / "docs" / "protocol-decisions.md").read_text("utf-8")
HTTP1 = "".join(map(inspect.getsource, (http1_framing, http1_heads, http1_requests, http1_responses, http1_state)))
HTTP2 = "".join(
    path.read_text("utf-8") for path in (*Path(http2.__file__).parent.glob("http2*.py"), Path(hpack.__file__))
)
STRICT_ONLY = {"control_character", "invalid_target", "missing_host", "invalid_host"}


def http1_reasons() -> set[str]:
    """All words that are given as a reason, read from the source."""
    found = set(re.findall(r'(?:_go_raw|_reject|_response_fault|ChunkError|_refuse_head)\(\s*"(\w+)"', HTTP1))
    found |= set(re.findall(r'fault = "(\w+)"', HTTP1))
    found |= set(re.findall(r'(?:else|or) "(\w+_\w+)"', HTTP1))
    for function in re.findall(r"def \w*fault\(.*?(?=\n    def |\ndef |\nclass |\Z)", HTTP1, re.DOTALL):
        found |= set(re.findall(r'"([a-z]\w+)"', "\n".join(re.findall(r"return .*", function))))
    return found


def http2_reasons() -> set[str]:
    found: set[str] = set()
    for given in re.findall(r"(?:_?UnexpectedError|HpackError|_give_up)\((.*)\)", HTTP2):
        found |= set(re.findall(r'"(\w+)"', given))
    return found


def test_every_reason_stands_on_the_page():
    missing = [
        each
        for each in http1_reasons() | http2_reasons()
        if f"`{'rejected' if each in STRICT_ONLY else 'raw'}:{each}`" not in PAGE
    ]
    assert missing == []


def test_every_reason_on_the_page_is_one():
    listed = set(re.findall(r"`(?:raw|rejected):([a-z]\w+)`", PAGE))
    assert listed == http1_reasons() | http2_reasons()


@pytest.mark.parametrize("reason", sorted(http1_reasons()))
def test_every_reason_is_asked_for_by_a_test(reason):
    tests = (path for path in Path(__file__).parent.glob("test_http1_*.py"))
    assert any(reason in path.read_text("utf-8") for path in tests)


def test_other_counters_and_numbers_stand_on_the_page():
    for name in (
        "abandoned",
        "headers_not_replaced",
        "requests_skipped:too_many_open",
        "tunnels:connect",
        "tunnels:upgrade",
    ):
        assert f"`{name}`" in PAGE
        assert name.split(":")[0] in HTTP1
    assert f"{MAX_OPEN:,} requests" in PAGE
    assert f"{MAX_OPEN_BYTES >> 20} MiB held" in PAGE


def test_a_reason_is_counted_under_its_name():
    assert Wire().client(b"\x00").reasons == {"raw:not_http"}
    assert Wire(strict=True).client(b"GET x HTTP/1.1\r\nHost: a\r\n\r\n").reasons == {"rejected:invalid_target"}
